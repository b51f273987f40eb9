"use strict";

// Asks a device for a passkey, puts its answer into the form, and sends the form. What goes wrong is said beside the
// button. The class is set before anything is drawn, so that nothing moves.

const SENTENCES = new Map([
  ["InvalidStateError", "This device has a passkey of your account already."],
  ["NotAllowedError", "Nothing was done: it was cancelled, or took too long. Try it again."],
  ["NotSupportedError", "This device can't make such a passkey."],
  ["SecurityError", "Browsers take no passkeys at this address."],
]);
const UNKNOWN = "Nothing was done. Try it again.";
const PAGE_TOO_OLD = "This page is too old. Please open it again.";
const UNREACHABLE = "The service can't be reached. Try it again.";
let isAsking = false;

class Refused extends Error {}

function knowsPasskeys() {
  return "PublicKeyCredential" in window && "parseCreationOptionsFromJSON" in PublicKeyCredential;
}

async function optionsFor(form) {
  const body = new URLSearchParams(new FormData(form));
  const answer = await fetch(form.dataset.options, { method: "POST", body, redirect: "manual" }).catch(() => {
    throw new Refused(UNREACHABLE);
  });
  if (answer.ok) return answer.json();
  if (answer.status >= 500) throw new Refused(UNREACHABLE);
  const isTold = answer.status === 409 || answer.status === 429;
  throw new Refused(isTold ? `${(await answer.json()).detail}.` : PAGE_TOO_OLD);
}

async function askDevice(form) {
  const options = await optionsFor(form);
  if (form.dataset.passkey === "create") {
    return navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) });
  }
  return navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) });
}

async function send(form) {
  const error = form.querySelector("#credential-error");
  error.textContent = "";
  isAsking = true;
  try {
    form.elements.credential.value = JSON.stringify(await askDevice(form));
    form.submit();
  } catch (problem) {
    error.textContent = problem instanceof Refused ? problem.message : SENTENCES.get(problem.name) ?? UNKNOWN;
  } finally {
    isAsking = false;
  }
}

if (knowsPasskeys()) {
  document.documentElement.classList.add("has-passkeys");
  document.addEventListener("submit", (event) => {
    if (!("passkey" in event.target.dataset)) return;
    event.preventDefault();
    if (!isAsking) send(event.target);
  });
}
