// Senders whose keys are fetched: a request names the key, and the file of
// vectors has the keys by name.
import { createHash } from 'node:crypto'
import { EventEmitter } from 'node:events'
import { createRequire } from 'node:module'
import { crc32 } from 'node:zlib'
import { SignJWT, importJWK, jwtVerify } from 'jose'
import { certificate, rsa } from './certificates.mjs'

const require = createRequire(import.meta.url)
const https = require('node:https')
const Validator = require('sns-validator')

const rootKey = rsa('vector root')
const root = certificate({ subject: 'Vector Root', authority: true, key: rootKey, issuer: 'Vector Root', issuerKey: rootKey, serial: 1 })
const issued = (subject, key, serial) => certificate({ subject, key, issuer: 'Vector Root', issuerKey: rootKey, serial })

export function fetched({ by, checked, p256, json, edit }) {
  return [sns({ checked, edit }), paypal({ json }), plaid({ by, p256, json })]
}

function sns({ checked, edit }) {
  const url = 'https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem'
  const key = rsa('vector sns')
  const keys = { [url]: issued('sns.amazonaws.com', key, 2) }
  const topics = ['arn:aws:sns:us-east-1:123456789012:orders', 'arn:aws:sns:us-east-1:210987654321:others']
  const members = ['Message', 'MessageId', 'Subject', 'SubscribeURL', 'Timestamp', 'Token', 'TopicArn', 'Type']
  const sign = (more) => (topic, text, { ms }) => {
    const m = { Type: 'Notification', MessageId: '22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324', TopicArn: topic, Message: text, Timestamp: new Date(ms).toISOString(), SignatureVersion: '1', ...more }
    m.Signature = key.sign(members.filter((n) => n in m).map((n) => `${n}\n${m[n]}\n`).join(''), m.SignatureVersion === '1' ? 'sha1' : 'sha256')
    m.SigningCertURL = url
    if (m.Type === 'Notification') m.UnsubscribeURL = 'https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe'
    return { headers: [['Content-Type', 'text/plain; charset=UTF-8'], ['x-amz-sns-message-type', m.Type], ['x-amz-sns-topic-arn', topic]], body: JSON.stringify(m, null, 2) }
  }
  const control = { Token: '2336412f37fb687f5d51e6e2', SubscribeURL: `https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=${topics[0]}&Token=2336412f37fb687f5d51e6e2` }
  return {
    preset: 'aws-sns', origin: checked('sns-validator'), secrets: topics, inside: true, signature: [], tolerance: 4200, keys, root,
    body: 'a message', unicode: 'Grüße aus Zürich, 日本語, 🚀,\ntwo lines', event: { type: 'Notification', id: '22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324' },
    sign: sign({}),
    handshake: (topic, ms, more) => sign({ Type: 'SubscriptionConfirmation', ...control, ...more })(topic, 'You have chosen to subscribe to the topic.', { ms }),
    // The validator leaves it to its user to compare the topic, as the documentation asks.
    library: (topic, r) => new Promise((resolve) => {
      const get = https.get
      https.get = (called, answer) => {
        const res = Object.assign(new EventEmitter(), { statusCode: 200 })
        setImmediate(() => { answer(res); res.emit('data', Buffer.from(keys[called])); res.emit('end') })
        return new EventEmitter()
      }
      new Validator().validate(r.body, (err, m) => { https.get = get; resolve(!err && m.TopicArn === topic) })
    }),
    tamper: (v) => edit(v, (m) => { m.Message = 'A message' }),
    missing: (v) => edit(v, (m) => { delete m.Signature }),
    duplicated: (v) => ({ ...v, body: v.body.replace('"Signature":', '"Signature":"AA==","Signature":') }), duplicatedWant: 'malformed',
    extra: ({ valid }) => {
      const ms = 1760000000000
      const request = (more, topic = topics[0]) => ({ method: 'POST', ...sign(more)(topic, 'a message', { ms }) })
      const asked = { library: true, agree: true, key: topics[0] }
      return [
        { name: 'signature version 2', request: request({ SignatureVersion: '2' }), want: 'accept', more: asked },
        { name: 'with a subject', request: request({ Subject: 'a subject' }), want: 'accept', more: asked },
        { name: 'with an empty subject', request: request({ Subject: '' }), want: 'accept', more: asked },
        { name: 'a subject that was not signed', request: edit(valid, (m) => { m.Subject = '' }), want: 'mismatch', more: asked },
        { name: 'a subscription to confirm', request: request({ Type: 'SubscriptionConfirmation', ...control }), want: 'accept', more: asked },
        // sns-validator leaves the token out of the signed string; the documentation and AWS's Java library don't.
        { name: 'an end to confirm', request: request({ Type: 'UnsubscribeConfirmation', ...control }), want: 'accept' },
        { name: 'another token', request: edit(request({ Type: 'SubscriptionConfirmation', ...control }), (m) => { m.Token = 'x' }), want: 'mismatch', more: asked },
        { name: 'a member with a line break', request: request({ Type: 'Notification\nX' }), want: 'malformed' },
        { name: 'an unsigned member is altered', request: edit(valid, (m) => { m.UnsubscribeURL = 'https://example.com/' }), want: 'accept', more: asked },
        { name: 'a certificate of nobody', request: edit(valid, (m) => { m.SigningCertURL = 'https://sns.us-east-1.amazonaws.com.example.com/x.pem' }), want: 'unknown key', more: asked },
      ]
    },
  }
}

function paypal({ json }) {
  const url = 'https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-0123abcd'
  const key = rsa('vector paypal')
  const [id, body] = ['d938e770-8046-11e6-8103-6b62a8a99ac4', '{"id":"WH-9UG43882HX7271132-6E0871324L7949614","event_type":"PAYMENT.SALE.COMPLETED","create_time":"2025-10-09T08:53:20Z"}']
  const sign = (webhook, text, { ms }) => {
    const t = new Date(ms).toISOString().replace('.000', '')
    return [
      json, ['PAYPAL-AUTH-ALGO', 'SHA256withRSA'], ['PAYPAL-CERT-URL', url], ['PAYPAL-TRANSMISSION-ID', id], ['PAYPAL-TRANSMISSION-TIME', t],
      ['PAYPAL-TRANSMISSION-SIG', key.sign(`${id}|${t}|${webhook}|${crc32(text)}`)],
    ]
  }
  const header = (v, n, value) => ({ ...v, headers: v.headers.map(([h, x]) => [h, h === n ? value : x]) })
  return {
    preset: 'paypal', origin: "signed by node:crypto after the documentation; PayPal's packages for npm ask its API instead of checking",
    secrets: ['9XL90610J3647323C', '1JE4291016473214C'], signature: ['PAYPAL-TRANSMISSION-SIG'], tolerance: 73 * 3600, keys: { [url]: issued('messageverificationcerts.paypal.com', key, 3) }, root,
    body, event: { type: 'PAYMENT.SALE.COMPLETED', id: 'WH-9UG43882HX7271132-6E0871324L7949614' }, sign,
    extra: ({ valid }) => [
      { name: 'another transmission', request: header(valid, 'PAYPAL-TRANSMISSION-ID', 'd938e770-8046-11e6-8103-000000000000'), want: 'mismatch' },
      { name: 'another time', request: header(valid, 'PAYPAL-TRANSMISSION-TIME', '2025-10-09T08:53:21Z'), want: 'mismatch' },
      { name: 'a certificate of nobody', request: header(valid, 'PAYPAL-CERT-URL', 'https://api.paypal.com.example.com/v1/notifications/certs/CERT-1'), want: 'unknown key' },
      { name: 'two certificates', request: { ...valid, headers: [...valid.headers, ['PAYPAL-CERT-URL', url]] }, want: 'repeated' },
    ],
  }
}

function plaid({ by, p256, json }) {
  const pairs = { 'vector-key-one': p256('vector plaid one'), 'vector-key-two': p256('vector plaid two') }
  const [one, two] = Object.keys(pairs)
  const jwk = (kid) => { const { d, ...open } = pairs[kid].jwk; return { ...open, alg: 'ES256', use: 'sig', kid, created_at: 1750000000, expired_at: null } }
  const body = JSON.stringify({ webhook_type: 'TRANSACTIONS', webhook_code: 'SYNC_UPDATES_AVAILABLE', item_id: 'wz666MBjYWTp2PDzzggYhM6oWWmBb' }, null, 2)
  const hash = (text) => createHash('sha256').update(text).digest('hex')
  const token = async (key, text, ms, head = {}) => new SignJWT({ iat: ms / 1000, request_body_sha256: hash(text) })
    .setProtectedHeader({ alg: 'ES256', kid: one, typ: 'JWT', ...head }).sign(pairs[key].key)
  const altered = (v, jwt) => ({ ...v, headers: [json, ['Plaid-Verification', jwt]] })
  return {
    preset: 'plaid', origin: by('jose'), secrets: [one, two], keyless: true, signature: ['Plaid-Verification'], tolerance: 300,
    keys: Object.fromEntries([one, two].map((kid) => [kid, JSON.stringify(jwk(kid))])),
    body, event: { type: 'TRANSACTIONS.SYNC_UPDATES_AVAILABLE' }, emptyLibrary: true,
    sign: async (key, text, { ms }) => [json, ['Plaid-Verification', await token(key, text, ms)]],
    library: async (_, r) => {
      const found = await jwtVerify(r.header('Plaid-Verification'), async (head) => importJWK(jwk(head.kid), 'ES256'), { algorithms: ['ES256'], maxTokenAge: '5 min' })
      return found.payload.request_body_sha256 === hash(r.body)
    },
    extra: async ({ valid }) => [
      { name: 'the next key', request: altered(valid, await token(two, body, 1760000000000, { kid: two })), want: 'accept', more: { library: true, agree: true } },
      { name: 'a key of nobody', request: altered(valid, await token(two, body, 1760000000000, { kid: 'vector-key-six' })), want: 'unknown key', more: { library: true, agree: true } },
      { name: 'a kid that is a path', request: altered(valid, await token(one, body, 1760000000000, { kid: '../vector-key-one' })), want: 'unknown key' },
      { name: 'algorithm none', request: altered(valid, `${Buffer.from(`{"alg":"none","kid":"${one}"}`).toString('base64url')}.${valid.headers[1][1].split('.')[1]}.`), want: 'malformed', more: { library: true, agree: true } },
    ],
  }
}
