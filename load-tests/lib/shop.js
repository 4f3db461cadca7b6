// What a customer does at the gateway. Every request has a name, by which thresholds tell them apart.
import http from 'k6/http';
import { check, sleep } from 'k6';
import { Counter, Rate, Trend } from 'k6/metrics';
import exec from 'k6/execution';

const gateway = __ENV.GATEWAY || 'http://127.0.0.1:8080';
// The attempts of two runs must not be taken for repetitions of each other.
const run = __ENV.RUN || `${Date.now()}`;

// From the first request to place an order until it was seen COMPLETED, in milliseconds.
export const completed = new Trend('order_completed', true);
export const accepted = new Counter('orders_accepted');
// A key that was answered with two orders. Must stay zero.
export const duplicates = new Counter('orders_duplicated');
// Orders paid with a good card that did not become COMPLETED in time.
export const unfinished = new Rate('orders_unfinished');
// Requests that were refused for now: 429, or 503 with Retry-After.
export const held = new Rate('requests_held_back');

const FINAL_MS = 30000;
const LOOK_AGAIN_S = 0.2;

function options(customer, name, more) {
  return { headers: { Authorization: `Bearer ${customer.token}`, ...more }, tags: { name }, timeout: '20s' };
}

// Whether an answer says come back later, and when.
export function heldBack(answer) {
  const refused = answer.status === 429 || answer.status === 503;
  held.add(refused);
  if (refused) {
    check(answer, {
      'a refusal for now says when to come back': (r) => /^[0-9]+$/.test(r.headers['Retry-After'] || ''),
      'a refusal for now is a problem document': (r) =>
        (r.headers['Content-Type'] || '').startsWith('application/problem+json'),
    });
  }
  return refused;
}

export function newKey() {
  return `load-${run}-${exec.scenario.name}-${exec.scenario.iterationInTest}`;
}

// Asks for an order once. The attempt is written down for the auditor, whatever becomes of it.
export function place(customer, lines, key) {
  const body = JSON.stringify({ lines, payment_token: `tok_ok_${key}`.slice(0, 120) });
  const more = { 'Idempotency-Key': `"${key}"`, 'Content-Type': 'application/json' };
  const answer = http.post(`${gateway}/v1/orders`, body, options(customer, 'place', more));
  const order = answer.status === 202 ? answer.json('id') : null;
  console.log(JSON.stringify({ user: customer.user, key, order }));
  if (order) accepted.add(1);
  return { answer, order };
}

export function read(customer, order) {
  return http.get(`${gateway}/v1/orders/${order}`, options(customer, 'order'));
}

export function list(customer) {
  return http.get(`${gateway}/v1/orders?limit=20`, options(customer, 'orders'));
}

export function product(sku) {
  return http.get(`${gateway}/v1/products/${encodeURIComponent(sku)}`, { tags: { name: 'product' } });
}

// Sends the same request again: the answer must name the same order.
export function again(customer, lines, key, order) {
  const { order: second } = place(customer, lines, key);
  if (second) duplicates.add(second === order ? 0 : 1);
}

// Looks at an order until it is COMPLETED, as a customer's page would.
export function follow(customer, order, since) {
  const end = since + FINAL_MS;
  while (Date.now() < end) {
    const answer = read(customer, order);
    if (answer.status === 200 && answer.json('status') === 'COMPLETED') {
      completed.add(Date.now() - since);
      unfinished.add(false);
      return;
    }
    sleep(LOOK_AGAIN_S);
  }
  unfinished.add(true);
}
