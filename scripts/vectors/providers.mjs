// How each provider signs. Where the provider's library can make a signature it
// does; where it can only check one, node:crypto makes it and the library has to
// accept it and to refuse what was altered; where there is no library,
// node:crypto makes it after the provider's documentation.
import { createHmac, createHash, createPrivateKey, createPublicKey, createSign, createECDH, sign as cryptoSign } from 'node:crypto'
import { createRequire } from 'node:module'
import { Webhooks } from '@octokit/webhooks'
import { fetched } from './fetched.mjs'

const require = createRequire(import.meta.url)
export const version = (name) => {
  const lock = require('./package-lock.json')
  return `${name} ${lock.packages[`node_modules/${name}`].version}`
}
const hmac = (secret, text, encoding = 'hex', hash = 'sha256') => createHmac(hash, secret).update(text).digest(encoding)
const sha256 = (text) => createHash('sha256').update(text).digest('hex')
const seconds = (ms) => String(Math.floor(ms / 1000))
const json = ['Content-Type', 'application/json']
const url = 'https://hooks.example.com/v1/source'
const by = (name) => `signed by ${version(name)} (npm)`
const checked = (name) => `signed by node:crypto, accepted by ${version(name)} (npm)`
const documented = 'signed by node:crypto after the documentation'

const plain = ['vector-secret-one-0123456789abcdef', 'vector-secret-two-fedcba9876543210']
const whsec = plain.map((s) => 'whsec_' + Buffer.from(s.slice(-32)).toString('base64'))
const hexKeys = plain.map((s) => sha256(s))

// Most providers sign the bare body.
function bare(preset, header, { prefix = '', encoding = 'hex', hash, headers = [], body, event, origin = documented, library, secrets = plain, ...more }) {
  return {
    preset, origin, secrets, signature: [header], body, event, library, ...more,
    sign: (key, text) => [json, [header, prefix + hmac(key, text, encoding, hash)], ...headers],
  }
}

function standard(preset, h, module, body, event) {
  const { Webhook } = require(module)
  return {
    preset, origin: by(module), secrets: whsec, signature: [`${h}-signature`], tolerance: 300, body, event,
    sign: (key, text, { id, ms }) => [json, [`${h}-id`, id], [`${h}-timestamp`, seconds(ms)], [`${h}-signature`, new Webhook(key).sign(id, new Date(ms), text)]],
    library: (key, r) => new Webhook(key).verify(r.body, Object.fromEntries(r.headers.map(([n, v]) => [n.toLowerCase(), v]))) !== null,
    emptyLibrary: false, // they parse what they have verified
    extra: async ({ sign, valid, secret, other }) => {
      const second = (await sign(other, body)).headers.at(-1)[1]
      const both = valid.headers.map(([n, v]) => [n, n === `${h}-signature` ? `${second} v1a,AAAA ${v}` : v])
      return [
        { name: 'several signatures', request: { ...valid, headers: both }, want: 'accept' },
        { name: 'id of another message', request: { ...valid, headers: valid.headers.map(([n, v]) => [n, n === `${h}-id` ? 'msg_other' : v]) }, want: 'mismatch' },
        { name: 'repeated id', request: { ...valid, headers: [...valid.headers, [`${h}-id`, 'msg_other']] }, want: 'repeated' },
      ]
    },
  }
}

// edit changes the JSON of a request's body.
const edit = (v, change) => {
  const parsed = JSON.parse(v.body)
  change(parsed)
  return { ...v, body: JSON.stringify(parsed) }
}

// Key pairs are derived from words, so that each run gives the same.
function ed25519(word) {
  const seed = createHash('sha256').update(word).digest()
  const key = createPrivateKey({ key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]), format: 'der', type: 'pkcs8' })
  const raw = createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32)
  return { raw, sign: (text) => cryptoSign(null, Buffer.from(text), key) }
}

function p256(word) {
  const d = createHash('sha256').update(word).digest()
  const ecdh = createECDH('prime256v1')
  ecdh.setPrivateKey(d)
  const point = ecdh.getPublicKey()
  const jwk = { kty: 'EC', crv: 'P-256', d: d.toString('base64url'), x: point.subarray(1, 33).toString('base64url'), y: point.subarray(33).toString('base64url') }
  const key = createPrivateKey({ key: jwk, format: 'jwk' })
  return {
    jwk, key,
    spki: createPublicKey(key).export({ format: 'der', type: 'spki' }).toString('base64'),
    sign: (text) => createSign('sha256').update(text).sign(key).toString('base64'),
  }
}

export function providers() {
  return [...codeHosting(), ...payments(), ...tools(), ...messages(), ...fetched({ by, checked, p256, json, edit }), ...generic()]
}

function codeHosting() {
  const issue = '{"action":"opened","issue":{"id":7,"number":1,"title":"a title here"}}'
  const token = (key) => [json, ['X-Gitlab-Token', key], ['X-Gitlab-Event', 'Issue Hook'], ['Idempotency-Key', 'a5f1c8'], ['X-Gitlab-Event-UUID', '9c1a']]
  const gitlabBody = '{"object_kind":"issue","object_attributes":{"id":7,"action":"open"},"name":"one"}'
  return [
    {
      preset: 'github', origin: by('@octokit/webhooks'), secrets: plain, signature: ['X-Hub-Signature-256'], body: issue,
      event: { type: 'issues.opened', id: '72d3162e-cc78-11e3-81ab-4c9367dc0958' },
      sign: async (key, text) => [json, ['X-Hub-Signature-256', text === '' ? 'sha256=' + hmac(key, '') : await new Webhooks({ secret: key }).sign(text)], ['X-GitHub-Event', 'issues'], ['X-GitHub-Delivery', '72d3162e-cc78-11e3-81ab-4c9367dc0958']],
      library: (key, r) => new Webhooks({ secret: key }).verify(r.body, r.header('X-Hub-Signature-256')), emptyLibrary: false,
      extra: ({ valid, secret }) => [
        { name: 'the weaker hash alone', request: { ...valid, headers: [json, ['X-Hub-Signature', 'sha1=' + hmac(secret, issue, 'hex', 'sha1')]] }, want: 'missing' },
        { name: 'empty signature', request: { ...valid, headers: [json, ['X-Hub-Signature-256', 'sha256=']] }, want: 'malformed' },
      ],
    },
    ...['gitea', 'forgejo', 'gogs'].map((preset) => {
      const h = preset[0].toUpperCase() + preset.slice(1)
      return bare(preset, `X-${h}-Signature`, {
        body: issue, headers: [[`X-${h}-Event`, 'issues'], [`X-${h}-Delivery`, 'f6266f16']], event: { type: 'issues.opened', id: 'f6266f16' },
        extra: ({ valid }) => [{ name: 'empty signature', request: { ...valid, headers: [json, [`X-${h}-Signature`, '']] }, want: 'malformed' }],
      })
    }),
    {
      preset: 'gitlab', origin: 'written by hand after the documentation: the header is the secret', secrets: plain, signature: ['X-Gitlab-Token'], credential: true,
      body: gitlabBody, event: { type: 'issue.open', id: 'a5f1c8' }, sign: token,
      tamper: (v) => ({ ...v, headers: v.headers.map(([n, x]) => [n, n === 'X-Gitlab-Token' ? x.slice(0, -1) + 'X' : x]) }),
    },
    { ...standard('gitlab-signed', 'webhook', 'standardwebhooks', gitlabBody, { type: 'issue.open', id: 'msg_2b9f' }) },
    bare('bitbucket', 'X-Hub-Signature', { prefix: 'sha256=', body: '{"repository":{"name":"one"}}', headers: [['X-Event-Key', 'repo:push'], ['X-Request-UUID', '2c7e']], event: { type: 'repo:push', id: '2c7e' } }),
    bare('jira', 'X-Hub-Signature', { prefix: 'sha256=', body: '{"timestamp":1760000000000,"webhookEvent":"jira:issue_updated"}', headers: [['X-Atlassian-Webhook-Identifier', '5f1e']], event: { type: 'jira:issue_updated', id: '5f1e' } }),
  ]
}

function payments() {
  const Stripe = require('stripe')
  const stripe = new Stripe('sk_test_vectors')
  const { WebhooksHelper } = require('square')
  const { hmacValidator } = require('@adyen/api-library')
  const { WebhooksValidator } = require('@paddle/paddle-node-sdk')
  new (require('@paddle/paddle-node-sdk').Paddle)('vectors') // sets the library's runtime up
  const Razorpay = require('razorpay')
  const gocardless = require('gocardless-nodejs/webhooks')
  const item = { pspReference: '7914073381342284', originalReference: '', merchantAccountCode: 'ExampleCom', merchantReference: 'order-7', amount: { value: 1130, currency: 'EUR' }, eventCode: 'AUTHORISATION', success: 'true', eventDate: '2025-10-09T10:53:20+02:00', paymentMethod: 'visa' }
  const adyen = (key, text) => {
    const parsed = JSON.parse(text)
    const it = parsed.notificationItems[0].NotificationRequestItem
    it.additionalData = { hmacSignature: new hmacValidator().calculateHmac(it, key) }
    return { headers: [json], body: JSON.stringify(parsed) }
  }
  const adyenBody = (it) => JSON.stringify({ live: 'false', notificationItems: [{ NotificationRequestItem: it }] })
  const theItem = (parsed) => parsed.notificationItems[0].NotificationRequestItem
  return [
    {
      preset: 'stripe', origin: by('stripe'), secrets: plain.map((s) => 'whsec_' + s), signature: ['Stripe-Signature'], tolerance: 300,
      body: '{"id":"evt_1PgafmB7WZ01zgkW6dKueIc5","object":"event","type":"invoice.paid","created":1760000000}', event: { type: 'invoice.paid', id: 'evt_1PgafmB7WZ01zgkW6dKueIc5' },
      sign: (key, payload, { ms }) => [json, ['Stripe-Signature', stripe.webhooks.generateTestHeaderString({ payload, secret: key, timestamp: Number(seconds(ms)), scheme: 'v1' })]],
      library: (key, r) => stripe.webhooks.signature.verifyHeader(r.body, r.header('Stripe-Signature'), key, 300),
      extra: async ({ sign, valid, other }) => {
        const second = (await sign(other, valid.body)).headers[1][1].split(',')[1]
        const [t, v1] = valid.headers[1][1].split(',')
        const header = (v) => ({ ...valid, headers: [json, ['Stripe-Signature', v]] })
        return [
          { name: 'several signatures', request: header(`${t},${second},${v1}`), want: 'accept' },
          { name: 'only the scheme v0', request: header(`${t},v0=${v1.slice(3)}`), want: 'missing' },
          { name: 'two times', request: header(`${t},t=1760000001,${v1}`), want: 'repeated' },
          { name: 'a time that is no number', request: header(`t=NaN,${v1}`), want: 'malformed' },
        ]
      },
    },
    {
      preset: 'square', origin: checked('square'), secrets: plain, signature: ['X-Square-HmacSha256-Signature'], url, publicURL: url,
      body: '{"merchant_id":"M1","type":"payment.created","event_id":"6a8f5f28-54a1","created_at":"2025-10-09T08:53:20Z"}', event: { type: 'payment.created', id: '6a8f5f28-54a1' },
      sign: (key, text) => [json, ['X-Square-HmacSha256-Signature', hmac(key, url + text, 'base64')]],
      library: (key, r) => WebhooksHelper.verifySignature({ requestBody: r.body, signatureHeader: r.header('X-Square-HmacSha256-Signature'), signatureKey: key, notificationUrl: url }),
    },
    {
      preset: 'adyen', origin: by('@adyen/api-library'), secrets: hexKeys, inside: true, signature: [],
      body: adyenBody(item), unicode: adyenBody({ ...item, merchantReference: 'Grüße 🚀' }), event: { type: 'AUTHORISATION', id: 'AUTHORISATION:7914073381342284:true' },
      sign: adyen,
      library: (key, r) => new hmacValidator().validateHMAC(theItem(JSON.parse(r.body)), key),
      tamper: (v) => edit(v, (x) => { theItem(x).amount.value = 1 }),
      missing: (v) => edit(v, (x) => { delete theItem(x).additionalData }),
      duplicated: (v) => ({ ...v, body: v.body.replace('"hmacSignature":', '"hmacSignature":"AA==","hmacSignature":') }), duplicatedWant: 'malformed',
      extra: ({ valid, secret }) => [
        { name: 'a second item without a signature', request: edit(valid, (x) => x.notificationItems.push({ NotificationRequestItem: item })), want: 'missing' },
        { name: 'a second item with the signature of the first', request: edit(valid, (x) => x.notificationItems.push({ NotificationRequestItem: { ...theItem(x), pspReference: 'other' } })), want: 'mismatch' },
        { name: 'two items', request: edit(valid, (x) => x.notificationItems.push(JSON.parse(adyen(secret, adyenBody({ ...item, pspReference: 'other' })).body).notificationItems[0])), want: 'accept' },
        { name: 'no item', request: edit(valid, (x) => { x.notificationItems = [] }), want: 'missing' },
        { name: 'an unsigned field is altered', request: edit(valid, (x) => { theItem(x).paymentMethod = 'mc' }), want: 'accept' },
      ],
    },
    {
      ...bare('adyen-platform', 'HmacSignature', { encoding: 'base64', body: '{"type":"balancePlatform.transfer.created","timestamp":"2025-10-09T08:53:20Z","data":{}}', event: { type: 'balancePlatform.transfer.created' } }),
      origin: checked('@adyen/api-library'), secrets: hexKeys,
      sign: (key, text) => [json, ['HmacSignature', hmac(Buffer.from(key, 'hex'), text, 'base64')]],
      library: (key, r) => new hmacValidator().validateHMACSignature(key, r.header('HmacSignature'), r.body),
    },
    {
      preset: 'paddle', origin: checked('@paddle/paddle-node-sdk'), secrets: plain, signature: ['Paddle-Signature'], tolerance: 30,
      body: '{"event_id":"evt_01hv8x","event_type":"transaction.completed","occurred_at":"2025-10-09T08:53:20Z"}', event: { type: 'transaction.completed', id: 'evt_01hv8x' },
      sign: (key, text, { ms }) => [json, ['Paddle-Signature', `ts=${seconds(ms)};h1=${hmac(key, `${seconds(ms)}:${text}`)}`]],
      library: (key, r) => new WebhooksValidator().isValidSignature(r.body, key, r.header('Paddle-Signature')),
    },
    bare('gocardless', 'Webhook-Signature', {
      origin: checked('gocardless-nodejs'), body: '{"events":[{"id":"EV123","created_at":"2025-10-09T08:53:20.000Z","resource_type":"payments","action":"confirmed","links":{"payment":"PM123"}}]}', event: { type: 'payments.confirmed', id: 'EV123' },
      library: (key, r) => { gocardless.verifySignature(r.body, key, r.header('Webhook-Signature')); return true },
    }),
    bare('razorpay', 'X-Razorpay-Signature', {
      origin: checked('razorpay'), body: '{"event":"payment.captured","created_at":1760000000}', headers: [['X-Razorpay-Event-Id', 'EvtId7']], event: { type: 'payment.captured', id: 'EvtId7' },
      library: (key, r) => Razorpay.validateWebhookSignature(r.body, r.header('X-Razorpay-Signature'), key), emptyLibrary: false,
    }),
    braintree(),
  ]
}

function braintree() {
  const lib = require('braintree')
  const gateway = (key) => new lib.BraintreeGateway({ environment: lib.Environment.Sandbox, merchantId: 'integration', publicKey: 'publickey01', privateKey: key })
  const form = ['Content-Type', 'application/x-www-form-urlencoded']
  const encode = (fields) => new URLSearchParams(fields).toString()
  return {
    preset: 'braintree', origin: by('braintree'), secrets: plain, inside: true, signature: [], body: 'check', unicode: 'check', event: { type: 'notification' },
    sign: (key) => ({ headers: [form], body: encode(gateway(key).webhookTesting.sampleNotification(lib.WebhookNotification.Kind.Check, '1')) }),
    library: async (key, r) => {
      const fields = new URLSearchParams(r.body)
      return Boolean(await gateway(key).webhookNotification.parse(fields.get('bt_signature'), fields.get('bt_payload')))
    },
    tamper: (v) => { const f = new URLSearchParams(v.body); f.set('bt_payload', 'PG4vPg==\n'); return { ...v, body: f.toString() } },
    missing: (v) => { const f = new URLSearchParams(v.body); f.delete('bt_signature'); return { ...v, body: f.toString() } },
    duplicated: (v) => ({ ...v, body: `${v.body}&bt_signature=x` }), emptyWant: 'missing',
  }
}

function tools() {
  const { verifySlackRequest } = require('@slack/bolt')
  const { LinearWebhookClient } = require('@linear/sdk/webhooks')
  const notion = require('@notionhq/client')
  const { Signature } = require('@hubspot/api-client')
  const { WebhooksManager } = require('box-node-sdk/lib/managers/webhooks')
  const hubspotBody = '[{"eventId":1,"subscriptionId":25,"portalId":33,"appId":1160452,"occurredAt":1760000000000,"subscriptionType":"contact.creation","attemptNumber":0,"objectId":7}]'
  const hubspotUnicode = hubspotBody.replace('"attemptNumber"', '"propertyValue":"Grüße 🚀","attemptNumber"')
  const hubspotEvent = { type: 'contact.creation', id: '33:25:1:1760000000000:7' }
  const stripeLike = (preset, header, tolerance, body, event) => ({
    preset, origin: documented, secrets: plain, signature: [header], tolerance, body, event,
    sign: (key, text, { ms }) => [json, [header, `t=${seconds(ms)},v1=${hmac(key, `${seconds(ms)}.${text}`)}`]],
  })
  const signedTime = (preset, header, timeHeader, tolerance, make, body, event, library) => ({
    preset, origin: library ? checked(library.name) : documented, secrets: plain, signature: [header], tolerance, body, event, library: library?.says,
    sign: (key, text, { ms }) => [json, ...make(key, text, ms)],
  })
  const linearBody = '{"action":"create","type":"Issue","createdAt":"2025-10-09T08:53:20.000Z","webhookTimestamp":1760000000000,"data":{"title":"one"}}'
  return [
    signedTime('slack', 'X-Slack-Signature', '', 300, (key, text, ms) => [['X-Slack-Request-Timestamp', seconds(ms)], ['X-Slack-Signature', 'v0=' + hmac(key, `v0:${seconds(ms)}:${text}`)]],
      '{"type":"event_callback","event_id":"Ev08MFMKH6","event_time":1760000000,"event":{"type":"app_mention"}}', { type: 'app_mention', id: 'Ev08MFMKH6' },
      { name: '@slack/bolt', says: (key, r) => { verifySlackRequest({ signingSecret: key, body: r.body, headers: { 'x-slack-signature': r.header('X-Slack-Signature'), 'x-slack-request-timestamp': Number(r.header('X-Slack-Request-Timestamp')) } }); return true } }),
    {
      ...bare('linear', 'Linear-Signature', { origin: checked('@linear/sdk'), body: linearBody, headers: [['Linear-Delivery', '234d1a4e']], event: { type: 'Issue.create', id: '234d1a4e' } }),
      inside: true, tolerance: 60, library: (key, r) => new LinearWebhookClient(key).verify(Buffer.from(r.body), r.header('Linear-Signature')),
      extra: async ({ sign, secret }) => [
        { name: 'the header with a time is not believed', request: { ...(await sign(secret, linearBody.replace('1760000000000', '1750000000000'))), }, want: 'stale' },
        { name: 'no time', request: await sign(secret, '{"action":"create","type":"Issue"}'), want: 'missing' },
      ],
    },
    {
      preset: 'notion', origin: by('@notionhq/client'), secrets: plain.map((s) => 'secret_' + s), signature: ['X-Notion-Signature'],
      body: '{"id":"367cba44-b6f3","type":"page.created","timestamp":"2025-10-09T08:53:20.000Z"}', event: { type: 'page.created', id: '367cba44-b6f3' },
      sign: async (key, body) => [json, ['X-Notion-Signature', await notion.signWebhookPayload({ body, verificationToken: key })]],
      library: (key, r) => notion.verifyWebhookSignature({ body: r.body, signature: r.header('X-Notion-Signature'), verificationToken: key }),
    },
    {
      preset: 'hubspot', origin: by('@hubspot/api-client'), secrets: plain, signature: ['X-HubSpot-Signature-v3'], tolerance: 300, url, publicURL: url, body: hubspotBody, event: hubspotEvent,
      unicode: hubspotUnicode,
      sign: (key, requestBody, { ms }) => [json, ['X-HubSpot-Request-Timestamp', String(ms)], ['X-HubSpot-Signature-v3', Signature.getSignature('POST', 'v3', { clientSecret: key, requestBody, url, timestamp: ms })]],
      library: (key, r) => Signature.isValid({ method: 'POST', signatureVersion: 'v3', clientSecret: key, requestBody: r.body, url, timestamp: Number(r.header('X-HubSpot-Request-Timestamp')), signature: r.header('X-HubSpot-Signature-v3') }),
      extra: ({ valid }) => [
        { name: 'another method', request: { ...valid, method: 'PUT' }, want: 'mismatch' },
        { name: 'another query', request: { ...valid, url: `${url}?a=b` }, want: 'mismatch' },
      ],
    },
    {
      preset: 'hubspot-v1', origin: by('@hubspot/api-client'), secrets: plain, signature: ['X-HubSpot-Signature'], body: hubspotBody, unicode: hubspotUnicode, event: hubspotEvent,
      sign: (key, requestBody) => [json, ['X-HubSpot-Signature', Signature.getSignature('POST', 'v1', { clientSecret: key, requestBody })]],
      library: (key, r) => Signature.isValid({ clientSecret: key, requestBody: r.body, signature: r.header('X-HubSpot-Signature') }),
    },
    bare('intercom', 'X-Hub-Signature', { prefix: 'sha1=', hash: 'sha1', body: '{"id":"notif_cc8f","topic":"conversation.user.created","created_at":1760000000}', event: { type: 'conversation.user.created', id: 'notif_cc8f' } }),
    signedTime('zendesk', 'X-Zendesk-Webhook-Signature', '', 300, (key, text, ms) => { const t = new Date(ms).toISOString().replace('.000', ''); return [['X-Zendesk-Webhook-Signature-Timestamp', t], ['X-Zendesk-Webhook-Signature', hmac(key, t + text, 'base64')], ['X-Zendesk-Webhook-Invocation-Id', '01GQ3']] },
      '{"type":"zen:event-type:ticket.created","id":"cbe4028c"}', { type: 'zen:event-type:ticket.created', id: '01GQ3' }),
    bare('pagerduty', 'X-PagerDuty-Signature', {
      prefix: 'v1=', body: '{"event":{"id":"01BYE","event_type":"incident.triggered","occurred_at":"2025-10-09T08:53:20Z"}}', event: { type: 'incident.triggered', id: '01BYE' },
      extra: ({ valid, secret, other }) => [{ name: 'several signatures', request: { ...valid, headers: [json, ['X-PagerDuty-Signature', `v1=${hmac(other, valid.body)},v1=${hmac(secret, valid.body)}`]] }, want: 'accept' }],
    }),
    bare('sentry', 'Sentry-Hook-Signature', { body: '{"action":"created","data":{}}', headers: [['Sentry-Hook-Resource', 'issue'], ['Request-ID', '7d6c'], ['Sentry-Hook-Timestamp', '1760000000']], event: { type: 'issue.created', id: '7d6c' } }),
    signedTime('zoom', 'x-zm-signature', '', 300, (key, text, ms) => [['x-zm-request-timestamp', seconds(ms)], ['x-zm-signature', 'v0=' + hmac(key, `v0:${seconds(ms)}:${text}`)]],
      '{"event":"meeting.started","event_ts":1760000000000,"payload":{}}', { type: 'meeting.started' }),
    bare('typeform', 'Typeform-Signature', { prefix: 'sha256=', encoding: 'base64', body: '{"event_id":"LtWXD3","event_type":"form_response"}', event: { type: 'form_response', id: 'LtWXD3' } }),
    stripeLike('calendly', 'Calendly-Webhook-Signature', 180, '{"event":"invitee.created","created_at":"2025-10-09T08:53:20.000000Z"}', { type: 'invitee.created' }),
    {
      preset: 'docusign', origin: documented, secrets: plain, signature: ['X-DocuSign-Signature-1'], body: '{"event":"envelope-completed","retryCount":0,"generatedDateTime":"2025-10-09T08:53:20Z"}', event: { type: 'envelope-completed' },
      sign: (key, text) => [json, ['X-DocuSign-Signature-1', hmac(key, text, 'base64')]],
      extra: ({ valid, secret, other }) => [
        { name: 'the second of two keys', request: { ...valid, headers: [json, ['X-DocuSign-Signature-1', hmac(other, valid.body, 'base64')], ['X-DocuSign-Signature-2', hmac(secret, valid.body, 'base64')]] }, want: 'accept' },
      ],
    },
    bare('dropbox', 'X-Dropbox-Signature', { secrets: ['vectorsecret015', 'vectorsecret510'], body: '{"list_folder":{"accounts":["dbid:AAH4"]},"delta":{"users":[12345]}}', event: { type: 'accounts.changed' } }),
    {
      preset: 'box', origin: checked('box-node-sdk'), secrets: plain, signature: ['BOX-SIGNATURE-PRIMARY'], tolerance: 600, body: '{"type":"webhook_event","id":"0f8c8f1e","created_at":"2025-10-09T10:53:20+02:00","trigger":"FILE.UPLOADED"}',
      event: { type: 'FILE.UPLOADED', id: '0f8c8f1e' },
      sign: (key, text, { ms }) => { const t = new Date(ms).toISOString().replace('.000Z', '-00:00').replace('-00:00', '+00:00'); return [json, ['BOX-DELIVERY-TIMESTAMP', t], ['BOX-SIGNATURE-VERSION', '1'], ['BOX-SIGNATURE-ALGORITHM', 'HmacSHA256'], ['BOX-SIGNATURE-PRIMARY', hmac(key, text + t, 'base64')], ['BOX-DELIVERY-ID', 'f96b']] },
      library: (key, r) => WebhooksManager.validateMessage(r.body, Object.fromEntries(r.headers.map(([n, v]) => [n.toLowerCase(), v])), key),
      extra: ({ valid, secret, other }) => {
        const t = valid.headers[1][1]
        return [{ name: 'the secondary key', request: { ...valid, headers: [json, ['BOX-DELIVERY-TIMESTAMP', t], ['BOX-SIGNATURE-PRIMARY', hmac(other, valid.body + t, 'base64')], ['BOX-SIGNATURE-SECONDARY', hmac(secret, valid.body + t, 'base64')]] }, want: 'accept' }]
      },
    },
    bare('xero', 'x-xero-signature', { encoding: 'base64', body: '{"events":[{"resourceId":"717f2bfc","tenantId":"c2cc9b6e","tenantType":"ORGANISATION","eventCategory":"INVOICE","eventType":"UPDATE","eventDateUtc":"2025-10-09T08:53:20.000"}],"firstEventSequence":1,"lastEventSequence":1,"entropy":"S0m3r4Nd0m"}', event: { type: 'INVOICE.UPDATE' } }),
  ]
}

function messages() {
  const twilio = require('twilio')
  const { EventWebhook } = require('@sendgrid/eventwebhook')
  const { verifyKey } = require('discord-interactions')
  const telnyx = require('telnyx/lib/webhooks')
  const contentful = require('@contentful/node-apps-toolkit')
  const ed = Object.fromEntries(['vector key one', 'vector key two'].map((w) => [w, ed25519(w)]))
  const ec = Object.fromEntries(['vector key one', 'vector key two'].map((w) => [w, p256(w)]))
  const words = Object.keys(ed)
  const formType = ['Content-Type', 'application/x-www-form-urlencoded']
  const form = 'MessageSid=SM1f0e&MessageStatus=delivered&From=%2B15005550006&To=%2B15005550001'
  const params = (text) => Object.fromEntries(new URLSearchParams(text))
  const hashed = (text) => `${url}?bodySHA256=${sha256(text)}`
  const mailgun = (key, text, { ms }) => {
    const timestamp = seconds(ms), token = 'a'.repeat(50)
    return { headers: [json], body: JSON.stringify({ signature: { timestamp, token, signature: hmac(key, timestamp + token) }, 'event-data': JSON.parse(text) }) }
  }
  return [
    {
      preset: 'twilio', origin: by('twilio'), secrets: plain, signature: ['X-Twilio-Signature'], url, publicURL: url, body: form, unicode: form + '&Body=Gr%C3%BC%C3%9Fe+%F0%9F%9A%80', event: { type: 'message.delivered' },
      sign: (key, text) => [formType, ['X-Twilio-Signature', twilio.getExpectedTwilioSignature(key, url, params(text))]],
      library: (key, r) => twilio.validateRequest(key, r.header('X-Twilio-Signature'), url, params(r.body)),
      extra: ({ valid, secret }) => {
        const called = hashed('{"a":1}')
        const headers = [json, ['X-Twilio-Signature', twilio.getExpectedTwilioSignature(secret, called, {})]]
        const repeated = `${form}&Media=b&Media=a`
        return [
          { name: 'JSON with its hash in the query', request: { ...valid, url: called, headers, body: '{"a":1}' }, want: 'accept' },
          { name: 'JSON of another hash', request: { ...valid, url: called, headers, body: '{"a":2}' }, want: 'mismatch' },
          { name: 'another query', request: { ...valid, url: `${url}?a=b` }, want: 'mismatch' },
          { name: 'a repeated field', request: { ...valid, body: repeated, headers: [formType, ['X-Twilio-Signature', twilio.getExpectedTwilioSignature(secret, url, { ...params(form), Media: ['b', 'a'] })]] }, want: 'accept' },
        ]
      },
    },
    {
      preset: 'sendgrid', origin: checked('@sendgrid/eventwebhook'), secrets: words, public: (w) => ec[w].spki, signature: ['X-Twilio-Email-Event-Webhook-Signature'], tolerance: 600,
      body: '[{"email":"user@example.com","timestamp":1760000000,"event":"delivered","sg_event_id":"ZGVsaXZlcmVk"}]\r\n', unicode: '[{"event":"delivered","sg_event_id":"ZGVsaXZlcmVk","category":"Grüße 🚀"}]\r\n', event: { type: 'delivered', id: 'ZGVsaXZlcmVk' },
      sign: (key, text, { ms }) => [json, ['X-Twilio-Email-Event-Webhook-Timestamp', seconds(ms)], ['X-Twilio-Email-Event-Webhook-Signature', ec[key].sign(seconds(ms) + text)]],
      library: (key, r) => { const w = new EventWebhook(); return w.verifySignature(w.convertPublicKeyToECDSA(ec[key].spki), r.body, r.header('X-Twilio-Email-Event-Webhook-Signature'), r.header('X-Twilio-Email-Event-Webhook-Timestamp')) },
    },
    {
      preset: 'mailgun', origin: documented, secrets: plain, inside: true, signature: [], tolerance: 600, body: '{"id":"CPgfbmQMTCKtHW6uIWtuVe","event":"delivered"}', unicode: '{"id":"CPgfbmQMTCKtHW6uIWtuVe","event":"delivered","note":"Grüße 🚀"}',
      event: { type: 'delivered', id: 'CPgfbmQMTCKtHW6uIWtuVe' }, sign: mailgun,
      tamper: (v) => edit(v, (x) => { x.signature.token = 'b'.repeat(50) }),
      missing: (v) => edit(v, (x) => { delete x.signature.signature }),
      duplicated: (v) => ({ ...v, body: v.body.replace('"token":', '"token":"x","token":') }), duplicatedWant: 'malformed',
      extra: ({ valid }) => [{ name: 'the event is not signed', request: edit(valid, (x) => { x['event-data'].event = 'opened' }), want: 'accept' }],
    },
    {
      preset: 'discord', origin: checked('discord-interactions'), secrets: words, public: (w) => ed[w].raw.toString('hex'), signature: ['X-Signature-Ed25519'], tolerance: 900,
      body: '{"version":1,"application_id":"1","type":1,"event":{"type":"APPLICATION_AUTHORIZED","timestamp":"2025-10-09T08:53:20.000000"}}', event: { type: 'APPLICATION_AUTHORIZED' },
      sign: (key, text, { ms }) => [json, ['X-Signature-Timestamp', seconds(ms)], ['X-Signature-Ed25519', ed[key].sign(seconds(ms) + text).toString('hex')]],
      library: (key, r) => verifyKey(r.body, r.header('X-Signature-Ed25519'), r.header('X-Signature-Timestamp'), ed[key].raw.toString('hex')),
    },
    {
      preset: 'telnyx', origin: checked('telnyx'), secrets: words, public: (w) => ed[w].raw.toString('base64'), signature: ['telnyx-signature-ed25519'], tolerance: 300,
      body: '{"data":{"id":"0ccc7b54","event_type":"message.received","occurred_at":"2025-10-09T08:53:20Z"}}', event: { type: 'message.received', id: '0ccc7b54' },
      sign: (key, text, { ms }) => [json, ['telnyx-timestamp', seconds(ms)], ['telnyx-signature-ed25519', ed[key].sign(`${seconds(ms)}|${text}`).toString('base64')]],
      library: async (key, r) => { await new telnyx.TelnyxWebhook(ed[key].raw.toString('base64')).verify(r.body, Object.fromEntries(r.headers)); return true },
    },
    {
      preset: 'contentful', origin: by('@contentful/node-apps-toolkit'), secrets: hexKeys, signature: ['x-contentful-signature'], tolerance: 30, url, publicURL: url,
      body: '{"sys":{"type":"Entry","id":"4gSSbjCFEorYXqrgDIP2FA","updatedAt":"2025-10-09T08:53:20.000Z"}}', event: { type: 'ContentManagement.Entry.publish', id: 'ContentManagement.Entry.publish:4gSSbjCFEorYXqrgDIP2FA' },
      sign: (key, text, { ms }) => {
        const headers = { 'x-contentful-topic': 'ContentManagement.Entry.publish' }
        const signed = contentful.signRequest(key, { method: 'POST', path: '/v1/source', headers: { ...headers }, body: text }, ms)
        return [['Content-Type', 'application/vnd.contentful.management.v1+json'], ...Object.entries(headers), ...Object.entries(signed)]
      },
      library: (key, r) => contentful.verifyRequest(key, { method: r.method, path: '/v1/source', headers: Object.fromEntries(r.headers), body: r.body }),
      extra: ({ valid }) => [
        { name: 'a signed header is altered', request: { ...valid, headers: valid.headers.map(([n, v]) => [n, n === 'x-contentful-topic' ? 'ContentManagement.Entry.delete' : v]) }, want: 'mismatch' },
        { name: 'a header is taken off the list', request: { ...valid, headers: valid.headers.map(([n, v]) => [n, n === 'x-contentful-signed-headers' ? 'x-contentful-signed-headers,x-contentful-timestamp' : v]) }, want: 'mismatch' },
      ],
    },
    {
      preset: 'ghost', origin: documented, secrets: plain, signature: ['X-Ghost-Signature'], tolerance: 300, body: '{"post":{"current":{"id":"7","title":"one"}}}', event: { type: 'change' },
      sign: (key, text, { ms }) => [json, ['X-Ghost-Signature', `sha256=${hmac(key, text + ms)}, t=${ms}`]],
    },
    shopify(),
    bare('woocommerce', 'X-WC-Webhook-Signature', { encoding: 'base64', body: '{"id":7,"status":"processing"}', headers: [['X-WC-Webhook-Topic', 'order.updated'], ['X-WC-Webhook-ID', '3'], ['X-WC-Webhook-Delivery-ID', 'd41d8cd98f00']], event: { type: 'order.updated', id: '3:order.updated' } }),
  ]
}

function shopify() {
  require('@shopify/shopify-api/adapters/node')
  const { shopifyApi, ApiVersion } = require('@shopify/shopify-api')
  const api = (key) => shopifyApi({ apiKey: 'vectors', apiSecretKey: key, scopes: [], hostName: 'hooks.example.com', apiVersion: Object.values(ApiVersion).at(-1), isEmbeddedApp: false, logger: { level: 0, log: () => {} } })
  const headers = [['X-Shopify-Topic', 'orders/create'], ['X-Shopify-Shop-Domain', 'shop.example.com'], ['X-Shopify-API-Version', '2025-10'], ['X-Shopify-Webhook-Id', 'b54557e4'], ['X-Shopify-Event-Id', '98880550'], ['X-Shopify-Triggered-At', '2025-10-09T08:53:20.000000Z']]
  return bare('shopify', 'X-Shopify-Hmac-Sha256', {
    encoding: 'base64', origin: checked('@shopify/shopify-api'), headers, body: '{"id":820982911946154508,"name":"#9999"}', event: { type: 'orders/create', id: '98880550' }, emptyLibrary: false,
    library: async (key, r) => (await api(key).webhooks.validate({ rawBody: r.body, rawRequest: { method: 'POST', url: '/', headers: Object.fromEntries(r.headers.map(([n, v]) => [n.toLowerCase(), v])) } })).valid,
  })
}

function generic() {
  const body = '{"type":"thing.changed","name":"one"}'
  const event = { type: 'thing.changed' }
  const credential = (preset, header, make, more = {}) => ({
    preset, origin: 'written by hand after the RFC: the header has the secret', secrets: plain, signature: [header], credential: true, body, event,
    sign: (key) => [json, ...(more.headers ?? []), [header, make(key)]],
    tamper: (v) => ({ ...v, headers: v.headers.map(([n, x]) => [n, n === header ? x.slice(0, -4) + 'XXX=' : x]) }), ...more.fields,
  })
  const bearer = (key) => `Bearer ${key}`
  return [
    standard('standard-webhooks', 'webhook', 'standardwebhooks', '{"type":"order.paid","timestamp":"2025-10-09T08:53:20Z","data":{}}', { type: 'order.paid', id: 'msg_2b9f' }),
    standard('svix', 'svix', 'svix', '{"type":"order.paid","data":{}}', { type: 'order.paid', id: 'msg_2b9f' }),
    standard('clerk', 'svix', 'svix', '{"type":"user.created","object":"event","data":{}}', { type: 'user.created', id: 'msg_2b9f' }),
    bare('miniflux', 'X-Miniflux-Signature', { body: '{"event_type":"new_entries","entries":[{"id":6}]}', event: { type: 'new_entries' } }),
    bare('hmac', 'X-Signature', { body, event }),
    bare('x', 'x-twitter-webhooks-signature', { prefix: 'sha256=', encoding: 'base64', origin: 'signed by node:crypto as in twitter-autohook 1.7.2 (npm)', body: '{"data":{"event_type":"profile.update.bio","payload":{"after":"here"}}}', event: { type: 'profile.update.bio' } }),
    bare('meta', 'X-Hub-Signature-256', { prefix: 'sha256=', body: '{"object":"page","entry":[{"id":"108","time":1760000000,"changes":[{"field":"feed","value":{"item":"like"}}]}]}', event: { type: 'page' } }),
    credential('token', 'X-Webhook-Token', (key) => key),
    credential('bearer', 'Authorization', bearer),
    credential('basic', 'Authorization', (key) => 'Basic ' + Buffer.from(key).toString('base64'), { fields: { secrets: plain.map((s) => `user:${s}`) } }),
    credential('cloudevents', 'Authorization', bearer, { headers: [['ce-id', 'A234'], ['ce-source', '/orders'], ['ce-type', 'com.example.order'], ['ce-specversion', '1.0']], fields: { event: { type: 'com.example.order', id: '/orders:A234' } } }),
    credential('okta', 'Authorization', (key) => key, { fields: { body: '{"eventType":"com.okta.event_hook","eventId":"b5a188b9-5ece-4636-b041-482ffda96311","eventTime":"2025-10-09T08:53:20.000Z","data":{"events":[{"uuid":"3e7d3a5e","published":"2025-10-09T08:53:20.000Z","eventType":"user.lifecycle.create"}]}}', event: { type: 'user.lifecycle.create', id: '3e7d3a5e' } } }),
    credential('docker-registry', 'Authorization', bearer, { fields: { body: '{"events":[{"id":"320678d8","timestamp":"2025-10-09T08:53:20Z","action":"push"}]}', event: { type: 'push', id: '320678d8' } } }),
    credential('alertmanager', 'Authorization', bearer, { fields: { body: '{"receiver":"r","status":"firing","alerts":[]}', event: { type: 'firing' } } }),
  ]
}
