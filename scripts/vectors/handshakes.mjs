// Handshakes: for each that a preset has, requests and what they are answered.
// Signatures are made as in providers.mjs; answers are after the providers'
// documentation, where their own libraries don't give them.
import { createHmac } from 'node:crypto'
import { providers, version } from './providers.mjs'

// handshakesAt is when every request was signed.
export const handshakesAt = Date.UTC(2026, 10, 20, 12)

const json = ['Content-Type', 'application/json']
const form = ['Content-Type', 'application/x-www-form-urlencoded']
const text = 'text/plain; charset=utf-8'
const object = 'application/json'
const plain = 'handshake-secret-0123456789abcdef'
const docs = 'after the documentation'

// post is a handshake in a JSON body, in which value is what is given back.
const post = (preset, name, value, body, answer, more = {}) => ({ preset, name, value, make: (v) => ({ method: 'POST', headers: [json], body: body(v) }), answer, ...more })

const table = [
  post('slack', 'url-verification', '3eZbrw1aBm2rZgRNFdxV2595E9CrYOzRO-wbMA', (v) => JSON.stringify({ token: 'Jhj5dZrVaK7ZwHHjRyZWjbDl', challenge: v, type: 'url_verification' }),
    (v) => ({ status: 200, type: object, body: JSON.stringify({ challenge: v }) }), { origin: `signed by node:crypto; answered as by ${version('@slack/bolt')} (npm)` }),
  {
    preset: 'slack', name: 'ssl-check', unsigned: true, origin: `answered as by ${version('@slack/bolt')} (npm)`,
    make: () => ({ method: 'POST', headers: [form], body: 'token=Jhj5dZrVaK7ZwHHjRyZWjbDl&ssl_check=1' }), answer: () => ({ status: 200, type: '', body: '' }),
    others: [{ name: 'a form of another kind', status: 415, request: { method: 'POST', headers: [form], body: 'token=Jhj5dZrVaK7ZwHHjRyZWjbDl&command=%2Fweather' } }],
  },
  post('zoom', 'url-validation', 'qgg8vlvZRS6UYooatFL8Aw', (v) => JSON.stringify({ payload: { plainToken: v }, event_ts: handshakesAt, event: 'endpoint.url_validation' }),
    (v, key) => ({ status: 200, type: object, body: JSON.stringify({ plainToken: v, encryptedToken: createHmac('sha256', key).update(v).digest('hex') }) }), { signs: true }),
  post('discord', 'ping', undefined, () => '{"version":1,"application_id":"1234560123453231555","type":0}', () => ({ status: 204, type: '', body: '' }),
    { origin: `signed by node:crypto, as ${version('discord-interactions')} (npm) accepts it` }),
  post('discord', 'interactions-ping', undefined, () => '{"application_id":"1234560123453231555","id":"1198561","token":"aW50ZXJhY3Rpb24","type":1,"user":{"id":"7"},"version":1}',
    () => ({ status: 200, type: object, body: '{"type":1}' })),
  post('xero', 'intent-to-receive', undefined, () => '{"events":[],"firstEventSequence":0,"lastEventSequence":0,"entropy":"S0m3r4Nd0m"}', () => ({ status: 200, type: '', body: '' })),
  {
    preset: 'dropbox', name: 'challenge', unsigned: true, value: 'A2b-nq31x',
    make: (v) => ({ method: 'GET', query: '?challenge=' + encodeURIComponent(v), headers: [] }), answer: (v) => ({ status: 200, type: text, body: v }),
    others: [
      { name: 'no challenge', status: 400, request: { method: 'GET', query: '', headers: [] } },
      { name: 'an empty challenge', status: 400, request: { method: 'GET', query: '?challenge=', headers: [] } },
      { name: 'two challenges', status: 400, request: { method: 'GET', query: '?challenge=a&challenge=b', headers: [] } },
    ],
  },
  {
    preset: 'meta', name: 'subscribe', unsigned: true, value: '1158201444', config: 'handshakes: {subscribe: {secrets: [env:HANDSHAKE]}}',
    make: (v, token = plain) => ({ method: 'GET', query: `?hub.mode=subscribe&hub.challenge=${encodeURIComponent(v)}&hub.verify_token=${token}`, headers: [] }),
    answer: (v) => ({ status: 200, type: text, body: v }),
    others: [
      { name: 'wrong token', status: 403, request: { method: 'GET', query: '?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=of-someone-else', headers: [] } },
      { name: 'no token', status: 403, request: { method: 'GET', query: '?hub.mode=subscribe&hub.challenge=1158201444', headers: [] } },
      { name: 'two tokens', status: 403, request: { method: 'GET', query: `?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=x&hub.verify_token=${plain}`, headers: [] } },
      { name: 'another mode', status: 400, request: { method: 'GET', query: `?hub.mode=unsubscribe&hub.challenge=1158201444&hub.verify_token=${plain}`, headers: [] } },
    ],
  },
  {
    preset: 'meta', name: 'subscribe', unsigned: true, config: '', suffix: ' without a token of ours',
    make: () => ({ method: 'GET', query: '?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=x', headers: [] }), answer: () => ({ status: 403 }),
  },
  post('notion', 'verification-token', undefined, () => `{"verification_token":"secret_${plain}"}`, () => ({ status: 200, type: '', body: '' }), { unsigned: true }),
  {
    preset: 'woocommerce', name: 'ping', unsigned: true,
    make: () => ({ method: 'POST', headers: [form], body: 'webhook_id=42' }), answer: () => ({ status: 200, type: '', body: '' }),
    others: [{ name: 'another form', status: 415, request: { method: 'POST', headers: [form], body: 'webhook=42' } }],
  },
  {
    preset: 'cloudevents', name: 'consent', unsigned: true, config: 'handshakes: {consent: {allowed: [eventemitter.example.com]}}', suffix: '',
    make: () => ({ method: 'OPTIONS', headers: [['WebHook-Request-Origin', 'EventEmitter.example.com'], ['WebHook-Request-Rate', '120']] }),
    answer: () => ({ status: 200, type: '', body: '', headers: { 'WebHook-Allowed-Origin': 'EventEmitter.example.com', 'WebHook-Allowed-Rate': '*', Allow: 'POST' } }),
    others: [
      { name: 'an origin that may not send', status: 403, request: { method: 'OPTIONS', headers: [['WebHook-Request-Origin', 'other.example.com']] } },
      { name: 'no origin', status: 400, request: { method: 'OPTIONS', headers: [] } },
    ],
  },
  {
    preset: 'cloudevents', name: 'consent', unsigned: true, config: 'handshakes: {consent: {allowed: ["*"]}}\nlimit: {requests: 3, per: 1s}', suffix: ' to any, with a rate',
    make: () => ({ method: 'OPTIONS', headers: [['WebHook-Request-Origin', 'other.example.com']] }),
    answer: () => ({ status: 200, type: '', body: '', headers: { 'WebHook-Allowed-Origin': 'other.example.com', 'WebHook-Allowed-Rate': '180' } }),
  },
  {
    preset: 'x', name: 'crc', value: 'MGVkYzBiMmMtY2E2Ny00ZWUx', origin: 'signed by node:crypto and answered as in twitter-autohook 1.7.2 (npm)',
    make: (v) => ({ method: 'GET', query: `?crc_token=${encodeURIComponent(v)}&nonce=MTc2OTUxODI5MjkxNA`, headers: [] }),
    answer: (v, key) => ({ status: 200, type: object, body: JSON.stringify({ response_token: 'sha256=' + createHmac('sha256', key).update(v).digest('base64') }) }),
  },
  {
    preset: 'okta', name: 'verification', value: 'Me_rShK8JHsTnbyYrWXCEoMGbM_zsZ6k0hLPZ_Pg',
    make: (v) => ({ method: 'GET', headers: [['X-Okta-Verification-Challenge', v]] }), answer: (v) => ({ status: 200, type: object, body: JSON.stringify({ verification: v }) }),
  },
  {
    preset: 'aws-sns', name: 'subscription', origin: 'signed by node:crypto after the documentation',
    make: () => ({ method: 'POST', headers: [['Content-Type', 'text/plain; charset=UTF-8']], body: '{"Type":"SubscriptionConfirmation"}' }), answer: () => ({ status: 200, type: '', body: '' }),
    sign: (p, request, topic) => ({ method: request.method, ...p.handshake(topic, handshakesAt, request.members) }),
    others: [
      { name: 'an address of another host', status: 403, request: { method: 'POST', members: { SubscribeURL: 'https://sns.us-east-1.amazonaws.com.example.com/?Action=ConfirmSubscription' } } },
      { name: 'an address of another port', status: 403, request: { method: 'POST', members: { SubscribeURL: 'https://sns.us-east-1.amazonaws.com:8443/?Action=ConfirmSubscription' } } },
      { name: 'an address with a user', status: 403, request: { method: 'POST', members: { SubscribeURL: 'https://a@sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription' } } },
      { name: 'an address without TLS', status: 403, request: { method: 'POST', members: { SubscribeURL: 'http://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription' } } },
      { name: 'an empty address', status: 400, request: { method: 'POST', members: { SubscribeURL: '' } } },
    ],
  },
]

// handshakes returns a file of vectors for each preset that has handshakes.
export async function handshakes() {
  const all = {}
  for (const h of table) {
    const p = providers().find((p) => p.preset === h.preset)
    const file = (all[h.preset] ??= { preset: h.preset, at: new Date(handshakesAt).toISOString(), origin: '', ...(p.keys ? { keys: p.keys, root: p.root } : {}), vectors: [] })
    file.origin ||= h.origin ?? docs
    await cases(h, p, (v) => file.vectors.push(v))
  }
  return Object.values(all)
}

async function cases(h, p, push) {
  const [secret, other] = p.secrets
  const known = (s) => p.public?.(s) ?? s
  const add = (name, request, want, secrets = [known(secret)]) => push({ name: name + (h.suffix ?? ''), handshake: h.name, secrets, ...(h.config ? { config: h.config } : {}), ...request, want })
  const sign = async (request, key = secret) => {
    if (h.unsigned) return request
    if (h.sign) return h.sign(p, request, key)
    const extra = (await p.sign(key, request.body ?? (request.query ?? '').slice(1), { id: 'msg_1', ms: handshakesAt, url: p.url, method: request.method })).filter(([n]) => p.signature.includes(n) || n.includes('imestamp'))
    return { ...request, headers: [...request.headers, ...extra] }
  }
  const right = await sign(h.make(h.value))
  add('right', right, h.answer(h.value, secret))
  if (!h.unsigned) {
    add('wrong secret', await sign(h.make(h.value), other), { status: 401 })
    add('not signed', h.make(h.value), { status: 401 })
    add('rotated', right, h.answer(h.value, secret), [known(other), known(secret)])
    if (right.query) add('tampered', { ...right, query: right.query.replace('MG', 'MH') }, { status: 401 })
    if (right.body) add('tampered', { ...right, body: right.body.replace(/[05]/, '1') }, { status: 401 })
  }
  if (h.value) {
    for (const [name, value] of [['markup', '<script>alert("1")</script>&amp;'], ['letters of all kinds', 'Zürich 日本 🚀'], ['at the limit', 'a'.repeat(4096)]]) {
      add(name, await sign(h.make(value)), h.answer(value, secret))
    }
    add('too long', await sign(h.make('a'.repeat(4097))), { status: 400 })
    if (right.body || right.query) add('with a line break', await sign(h.make('a\r\nSet-Cookie: b=c')), { status: 400 })
  }
  add('another method', { ...right, method: 'PUT' }, { status: 405 })
  if (right.body) add('its body with GET', { ...right, method: 'GET' }, { status: table.some((x) => x.preset === h.preset && x.make('').method === 'GET') ? 400 : 405 })
  for (const o of h.others ?? []) add(o.name, await sign(o.request), { status: o.status })
}
