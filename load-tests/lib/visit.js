// One visit of a customer: a product, an order, now and then the same request again, and a look until it is completed.
import exec from 'k6/execution';
import { check } from 'k6';

import { customerOf, orderOf } from './data.js';
import * as shop from './shop.js';

const AGAIN_EVERY = 5;

export function visit() {
  const number = exec.scenario.iterationInTest;
  const [customer, lines, key] = [customerOf(number), orderOf(number), shop.newKey()];
  const product = shop.product(lines[0].sku);
  const hidden = shop.heldBack(product);
  check(product, { 'a product is shown or held back': (r) => r.status === 200 || hidden });
  const since = Date.now();
  const { answer, order } = shop.place(customer, lines, key);
  // Another order of the same customer may be under way: that is no error, and neither is being held back.
  const held = shop.heldBack(answer);
  check(answer, { 'an order is accepted or held back': (r) => r.status === 202 || r.status === 409 || held });
  if (!order) return;
  if (number % AGAIN_EVERY === 0) shop.again(customer, lines, key, order);
  shop.follow(customer, order, since);
}

// What every profile asks of its visits. Durations are in milliseconds.
export function thresholds(more) {
  return {
    checks: ['rate==1'],
    dropped_iterations: ['count==0'],
    orders_duplicated: ['count==0'],
    orders_unfinished: ['rate==0'],
    orders_accepted: ['count>0'],
    ...more,
  };
}
