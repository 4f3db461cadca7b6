// One customer who asks for more than anybody may: most of it is refused with 429, each refusal says when to come back, and
// the others are not bothered.
import http from 'k6/http';
import { check } from 'k6';
import { Counter } from 'k6/metrics';

import { customers } from '../lib/data.js';
import { thresholds, visit } from '../lib/visit.js';
import * as shop from '../lib/shop.js';

// 429 is what this profile is about: no failure.
http.setResponseCallback(http.expectedStatuses({ min: 200, max: 299 }, 429));

const refused = new Counter('greedy_refused');
const served = new Counter('greedy_served');

export const options = {
  scenarios: {
    greedy: {
      executor: 'constant-arrival-rate', rate: Number(__ENV.GREED || 400), timeUnit: '1s', duration: '20s',
      preAllocatedVUs: 100, maxVUs: 800, exec: 'greedy',
    },
    others: {
      executor: 'constant-arrival-rate', rate: 2, timeUnit: '1s', duration: '20s', preAllocatedVUs: 20, maxVUs: 80,
      exec: 'others',
    },
  },
  thresholds: thresholds({
    greedy_refused: ['count>0'],
    greedy_served: ['count>0'],
    http_req_failed: ['rate==0'],
    'requests_held_back{scenario:others}': ['rate==0'],
  }),
};

export function greedy() {
  const answer = shop.list(customers[customers.length - 1]);
  const held = shop.heldBack(answer);
  check(answer, {
    'the greedy one is served or told to wait': (r) => r.status === 200 || r.status === 429,
    'a refusal tells the limit': (r) => !held || ('Ratelimit' in r.headers && 'Ratelimit-Policy' in r.headers),
  });
  (held ? refused : served).add(1);
}

export const others = visit;
