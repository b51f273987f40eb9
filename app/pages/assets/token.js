"use strict";

// Takes the token out of the address, where a mail's link has it behind the #, into the form, which a person sends.
// The class is set before anything is drawn, so that nothing moves.

function takeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token === null) return;
  document.documentElement.classList.add("with-token");
  const fill = () => {
    const field = document.querySelector("[name=token]");
    if (field === null) return;
    field.value = token;
    history.replaceState(null, "", location.pathname + location.search);
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", fill);
  else fill();
}

takeToken();
addEventListener("hashchange", takeToken);
