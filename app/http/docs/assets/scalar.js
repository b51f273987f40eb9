"use strict";

const page = document.getElementById("page");

Scalar.createApiReference(page, {
  url: new URL(page.dataset.document, location.href).href,
  withDefaultFonts: false,
  proxyUrl: "",
  telemetry: false,
  agent: { disabled: true },
  mcp: { disabled: true },
  showDeveloperTools: "never",
  hideClientButton: true,
  defaultOpenAllTags: true,
});
