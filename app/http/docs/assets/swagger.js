"use strict";

const page = document.getElementById("page");
const address = new URL(page.dataset.document, location.href);
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);

follow();
dark.addEventListener("change", follow);

SwaggerUIBundle({
  domNode: page,
  url: address.href,
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null,
  // The address for tokens is relative to the document, not to this page.
  requestInterceptor: (request) => Object.assign(request, { url: new URL(request.url, address).href }),
});
