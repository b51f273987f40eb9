// Signs a person in by oauth4webapi, which checks each answer strictly, from the discovery document alone.
//
// CLIENT says what was registered. The person is elsewhere: each line that this prints is an address for them to open,
// and the line that comes back is the address to which that has led. The last line is what was learned.

import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import * as oauth from "oauth4webapi";

const options = { [oauth.allowInsecureRequests]: true }; // A loopback address has no certificate.
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const { issuer, redirect_uri, scope, client_secret, ...client } = JSON.parse(process.env.CLIENT);
const url = new URL(issuer);
const method = { client_secret_basic: oauth.ClientSecretBasic, client_secret_post: oauth.ClientSecretPost };
const proof = client_secret ? method[client.token_endpoint_auth_method](client_secret) : oauth.None();

async function open(address) {
  console.log(address);
  return (await answers.next()).value;
}

async function discover(algorithm) {
  return oauth.processDiscoveryResponse(url, await oauth.discoveryRequest(url, { ...options, algorithm }));
}

async function callApi(token) {
  return oauth.protectedResourceRequest(token, "GET", new URL(`${issuer}/items`), undefined, undefined, options);
}

const server = await discover("oidc");
assert.deepEqual(server, await discover("oauth2"));
const resource = await oauth.processResourceDiscoveryResponse(url, await oauth.resourceDiscoveryRequest(url, options));
assert.deepEqual(resource.authorization_servers, [server.issuer]);

// The code flow with PKCE, a state and a nonce; the answer names its issuer, and the ID token is verified by the keys.
const verifier = oauth.generateRandomCodeVerifier();
const [state, nonce] = [oauth.generateRandomState(), oauth.generateRandomNonce()];
const request = new URL(server.authorization_endpoint);
request.search = new URLSearchParams({
  client_id: client.client_id,
  response_type: "code",
  redirect_uri,
  scope,
  state,
  nonce,
  max_age: "600",
  code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
  code_challenge_method: "S256",
});
const answer = oauth.validateAuthResponse(server, client, new URL(await open(request.href)), state);
const exchanged = await oauth.authorizationCodeGrantRequest(server, client, proof, answer, redirect_uri, verifier, options);
const checks = { expectedNonce: nonce, maxAge: 600, requireIdToken: true };
const tokens = await oauth.processAuthorizationCodeResponse(server, client, exchanged, checks);
await oauth.validateApplicationLevelSignature(server, exchanged, options);
const { sub, amr } = oauth.getValidatedIdTokenClaims(tokens);
const told = await oauth.userInfoRequest(server, client, tokens.access_token, options);
const person = await oauth.processUserInfoResponse(server, client, sub, told);
assert.equal((await callApi(tokens.access_token)).status, 200);

// As the API of somebody else does it, who verifies the access token by the published keys (RFC 9068).
const call = new Request(issuer, { headers: { Authorization: `Bearer ${tokens.access_token}` } });
const claims = await oauth.validateJwtAccessToken(server, call, issuer, options);
assert.deepEqual([claims.sub, claims.client_id, claims.scope], [sub, client.client_id, scope]);

// Another pair of tokens, whose ID token is about the same person.
const refreshed = await oauth.refreshTokenGrantRequest(server, client, proof, tokens.refresh_token, options);
const renewed = await oauth.processRefreshTokenResponse(server, client, refreshed);
await oauth.validateApplicationLevelSignature(server, refreshed, options);
assert.equal(oauth.getValidatedIdTokenClaims(renewed).sub, sub);
assert.notEqual(renewed.refresh_token, tokens.refresh_token);

async function introspect(token) {
  const response = await oauth.introspectionRequest(server, client, proof, token, options);
  return oauth.processIntrospectionResponse(server, client, response);
}

// What needs a secret: tokens of the application's own, and learning about tokens.
if (client_secret) {
  const own = await oauth.clientCredentialsGrantRequest(server, client, proof, { scope: "items:read" }, options);
  const credentials = await oauth.processClientCredentialsResponse(server, client, own);
  const about = await introspect(credentials.access_token);
  assert.deepEqual([about.active, about.sub], [true, `client:${client.client_id}`]);
  assert.equal((await introspect(renewed.access_token)).sub, sub);
}

// A device that is let in by a person with a browser.
const waiting = await oauth.processDeviceAuthorizationResponse(
  server,
  client,
  await oauth.deviceAuthorizationRequest(server, client, proof, { scope }, options),
);
await open(waiting.verification_uri_complete);
const let_in = await oauth.deviceCodeGrantRequest(server, client, proof, waiting.device_code, options);
const device = await oauth.processDeviceCodeResponse(server, client, let_in);
await oauth.validateApplicationLevelSignature(server, let_in, options);
assert.equal(oauth.getValidatedIdTokenClaims(device).sub, sub);

// Revoked is revoked, and an answer's challenge can be read.
await oauth.processRevocationResponse(await oauth.revocationRequest(server, client, proof, renewed.refresh_token, options));
if (client_secret) {
  assert.equal((await introspect(renewed.access_token)).active, false);
}
const refusal = await callApi(renewed.access_token).catch((error) => error);
assert.ok(refusal instanceof oauth.WWWAuthenticateChallengeError);
assert.equal(refusal.cause[0].parameters.error, "invalid_token");

console.log(JSON.stringify({ sub, amr, username: person.preferred_username }));
process.exit();
