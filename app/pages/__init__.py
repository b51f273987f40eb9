"""The pages for people: to sign up and in, to confirm what mails ask, and to look after one's account."""
