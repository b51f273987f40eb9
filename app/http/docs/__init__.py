"""The pages that show the OpenAPI document, with all that they load."""
