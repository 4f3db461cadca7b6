// A gateway that trusts an outside OpenID provider: the certified npm package oidc-provider signs the tokens, with RSA and with
// EdDSA, and orders are placed with them. Says what held; ends with 1 at the first thing that does not.
//
//   node oidc.mjs MODULES GATEWAY PORT     the directory of the package, the gateway's address, the provider's port
import assert from 'node:assert/strict';
import { generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

const [modules, gateway, port] = process.argv.slice(2);
const library = createRequire(`${modules}/`).resolve('oidc-provider');
const { default: Provider } = await import(pathToFileURL(library));

const AUDIENCE = 'portolan';
const ALGORITHMS = ['RS256', 'EdDSA'];
const PATIENCE_MS = 60_000;
// The gateway asks for unknown keys at most every ten seconds (CachePolicy in services/shared/auth).
const COOLDOWN_MS = 10_000;
const issuer = `http://127.0.0.1:${port}`;
const secret = randomBytes(32).toString('hex');

function newKey(alg) {
  const [type, options] = alg === 'RS256' ? ['rsa', { modulusLength: 2048 }] : ['ed25519', {}];
  const jwk = generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' });
  return { ...jwk, alg, use: 'sig', kid: randomUUID() };
}

// The names of clients say how their tokens are signed: shopper-RS256.
function client(name, scope) {
  return ALGORITHMS.map((alg) => ({
    client_id: `${name}-${alg}`, client_secret: secret, scope,
    grant_types: ['client_credentials'], response_types: [], redirect_uris: [],
  }));
}

// A provider at its port, which counts how often its keys are asked for.
async function start(keys) {
  const provider = new Provider(issuer, {
    jwks: { keys },
    scopes: ['customer', 'operator', 'baker'],
    clients: [...client('shopper', 'customer'), ...client('clerk', 'operator'), ...client('baker', 'baker')],
    cookies: { keys: [secret] },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_ctx, resource, { clientId }) => ({
          audience: new URL(resource).hostname, scope: 'customer operator baker', accessTokenTTL: 3600,
          accessTokenFormat: 'jwt', jwt: { sign: { alg: clientId.split('-')[1] } },
        }),
      },
    },
  });
  const asked = { times: 0 };
  const answer = provider.callback();
  const server = createServer((request, response) => {
    if (request.url === '/jwks') asked.times += 1;
    answer(request, response);
  });
  await new Promise((resolve) => server.listen(Number(port), '127.0.0.1', resolve));
  const stop = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return { asked, stop };
}

async function token(name, scope, audience = AUDIENCE) {
  const answer = await fetch(`${issuer}/token`, {
    method: 'POST',
    headers: { Authorization: `Basic ${Buffer.from(`${name}:${secret}`).toString('base64')}` },
    body: new URLSearchParams({ grant_type: 'client_credentials', scope, resource: `https://${audience}` }),
  });
  const body = await answer.json();
  assert.equal(answer.status, 200, JSON.stringify(body));
  return body.access_token;
}

async function ask(path, bearer, options = {}) {
  const headers = { Authorization: `Bearer ${bearer}`, ...options.headers };
  const answer = await fetch(`${gateway}${path}`, { ...options, headers });
  return { status: answer.status, challenge: answer.headers.get('www-authenticate') ?? '', body: await answer.json() };
}

async function until(what, found) {
  const end = Date.now() + PATIENCE_MS;
  while (Date.now() < end) {
    if (await found()) return;
    await sleep(100);
  }
  assert.fail(`not within a minute: ${what}`);
}

// An order from its acceptance to its end, all by the provider's token.
async function order(bearer) {
  const placed = await ask('/v1/orders', bearer, {
    method: 'POST',
    headers: { 'Idempotency-Key': randomUUID(), 'Content-Type': 'application/json' },
    body: JSON.stringify({ lines: [{ sku: '85123A', quantity: 1 }], payment_token: 'tok_ok_1' }),
  });
  assert.equal(placed.status, 202, JSON.stringify(placed.body));
  const path = `/v1/orders/${placed.body.id}`;
  await until('the order is completed', async () => (await ask(path, bearer)).body.status === 'COMPLETED');
}

function held(what) {
  console.log(`held: ${what}`);
}

const first = ALGORITHMS.map(newKey);
let provider = await start(first);
const shoppers = [];
for (const alg of ALGORITHMS) {
  const shopper = await token(`shopper-${alg}`, 'customer');
  shoppers.push(shopper);
  await order(shopper);
  assert.equal((await ask('/v1/admin/dlq', shopper)).status, 403);
  const clerk = await token(`clerk-${alg}`, 'operator');
  assert.equal((await ask('/v1/admin/dlq', clerk)).status, 200);
  const baker = await token(`baker-${alg}`, 'baker');
  assert.equal((await ask('/v1/orders', baker)).status, 403);
  const stray = await ask('/v1/orders', await token(`shopper-${alg}`, 'customer', 'elsewhere'));
  assert.equal(stray.status, 401);
  assert.match(stray.challenge, /^Bearer .*error="invalid_token"/);
  held(`${alg}: orders are placed and completed, scopes are roles, another audience is refused`);
}
assert.equal(provider.asked.times, 1);
held('the keys were fetched once');

const [head, claims, signature] = shoppers[0].split('.');
const made_up = JSON.parse(Buffer.from(head, 'base64url'));
await sleep(COOLDOWN_MS);
for (let number = 0; number < 1000; number += 1) {
  const bogus = Buffer.from(JSON.stringify({ ...made_up, kid: `bogus-${number}` })).toString('base64url');
  const refused = await ask('/v1/orders', `${bogus}.${claims}.${signature}`);
  // One address may not guess for ever: then it is told to wait.
  assert.ok(refused.status === 401 || refused.status === 429, `${refused.status}`);
}
assert.ok(provider.asked.times <= 3, `${provider.asked.times} fetches`);
held(`a thousand made-up key names caused ${provider.asked.times - 1} fetches`);

await provider.stop();
await order(shoppers[0]);
held('known keys are used while the provider is down');

// The new keys beside the old ones, as providers rotate.
provider = await start([...ALGORITHMS.map(newKey), ...first]);
for (const alg of ALGORITHMS) {
  const shopper = await token(`shopper-${alg}`, 'customer');
  await until('the new key is known', async () => (await ask('/v1/orders', shopper)).status === 200);
  await order(shopper);
}
for (const shopper of shoppers) await order(shopper);
held('tokens of new keys and of those before them count');
await provider.stop();
