"use strict";

const page = document.getElementById("page");
const address = new URL(page.dataset.document, location.href);
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);

follow();
dark.addEventListener("change", follow);

// A login by password is nobody's but the person's own: no application has a part in it.
const isPasswordLogin = (request) => String(request.body).includes("grant_type=password");

const ui = SwaggerUIBundle({
  domNode: page,
  url: address.href,
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null,
  // The address for tokens is relative to the document, not to this page.
  requestInterceptor: (request) => {
    if (page.dataset.client && isPasswordLogin(request)) delete request.headers.Authorization;
    return Object.assign(request, { url: new URL(request.url, address).href });
  },
  oauth2RedirectUrl: new URL("docs/oauth2-redirect.html", address).href,
});

if (page.dataset.client) ui.initOAuth({ clientId: page.dataset.client, usePkceWithAuthorizationCodeGrant: true });
