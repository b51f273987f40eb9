"use strict";

const page = document.getElementById("page");
const address = new URL(page.dataset.document, location.href);
const codeFlow = {
  "x-scalar-client-id": page.dataset.client,
  "x-scalar-redirect-uri": new URL("docs/scalar", address).href,
  "x-usePkce": "SHA-256",
};

Scalar.createApiReference(page, {
  url: address.href,
  withDefaultFonts: false,
  proxyUrl: "",
  telemetry: false,
  agent: { disabled: true },
  mcp: { disabled: true },
  showDeveloperTools: "never",
  hideClientButton: true,
  defaultOpenAllTags: true,
  ...(page.dataset.client && {
    authentication: { securitySchemes: { OAuth2: { flows: { authorizationCode: codeFlow } } } },
  }),
});
