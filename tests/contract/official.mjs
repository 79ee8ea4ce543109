// Shopify's own library on a batch of cases: stdin {now, apiKey, hooks, queries, tokens}, stdout its verdicts and
// what it signs itself. argv[2]: the folder that it is installed in.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const place = process.argv[2];
const load = (path) => import(pathToFileURL(join(place, 'node_modules', path)).href);
const input = JSON.parse(await new Response(process.stdin).text());

const RealDate = Date;
globalThis.Date = class extends RealDate { // the same moment for every case, as on the other side
  constructor(...given) { given.length ? super(...given) : super(input.now * 1000); }
  static now() { return input.now * 1000; }
};

const library = '@shopify/shopify-api/dist/esm';
await load(`${library}/adapters/node/index.mjs`);
const { shopifyApi } = await load(`${library}/lib/index.mjs`);
const { generateLocalHmac } = await load(`${library}/lib/utils/hmac-validator.mjs`);
const { createSHA256HMAC } = await load(`${library}/runtime/index.mjs`);
const { getJwt } = await load(`${library}/test-helpers/get-jwt.mjs`);

const configOf = (secret) => ({
  apiKey: input.apiKey,
  apiSecretKey: secret,
  apiVersion: '2026-01',
  hostName: 'unwind.example',
  hostScheme: 'https',
  isEmbeddedApp: true,
  logger: { level: 0, log: () => {} },
});
const told = async (question) => {
  try { return { valid: await question() }; } catch (error) { return { valid: false, why: error.constructor.name }; }
};

// A query as their own callback reads it; lists (`ids[]`) as a list.
function parametersOf(query) {
  const found = {};
  for (const [name, value] of new URL(`https://unwind.example/?${query}`).searchParams.entries()) {
    if (name.endsWith('[]')) (found[name.slice(0, -2)] ??= []).push(value);
    else found[name] = value;
  }
  return found;
}

async function hook({ secret, body, header }) {
  const headers = {
    'X-Shopify-Topic': 'orders/create',
    'X-Shopify-Shop-Domain': 'a-store.myshopify.com',
    'X-Shopify-API-Version': '2026-10',
    'X-Shopify-Webhook-Id': 'b54557e4-bdd9-4b37-8a5f-bf7d70bcd043',
    ...(header === null ? {} : { 'X-Shopify-Hmac-Sha256': header }),
  };
  const shopify = shopifyApi(configOf(secret));
  const rawRequest = { method: 'POST', url: '/webhooks', headers };
  const verdict = await told(async () => (await shopify.webhooks.validate({ rawBody: body, rawRequest })).valid);
  return { ...verdict, signs: await createSHA256HMAC(secret, body) };
}

async function query({ secret, query }) {
  const parameters = parametersOf(query);
  const verdict = await told(() => shopifyApi(configOf(secret)).utils.validateHmac(parameters));
  return { ...verdict, signs: await generateLocalHmac(configOf(secret))(parameters) };
}

async function token({ secret, token, claims }) {
  const shopify = shopifyApi(configOf(secret));
  const verdict = await told(async () => Boolean(await shopify.session.decodeSessionToken(token)));
  return { ...verdict, signs: (await getJwt('a-store', input.apiKey, secret, claims)).token };
}

const all = async (cases, ask) => { const found = []; for (const one of cases) found.push(await ask(one)); return found; };
process.stdout.write(JSON.stringify({
  hooks: await all(input.hooks, hook),
  queries: await all(input.queries, query),
  tokens: await all(input.tokens, token),
}));
