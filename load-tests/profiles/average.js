// A usual day: RATE orders a second (10 unless told otherwise) for five minutes, whether or not the shop keeps up.
import { thresholds, visit } from '../lib/visit.js';

const rate = Number(__ENV.RATE || 10);

export const options = {
  scenarios: {
    average: {
      executor: 'constant-arrival-rate', rate, timeUnit: '1s', duration: __ENV.DURATION || '5m',
      preAllocatedVUs: rate * 5, maxVUs: rate * 30,
    },
  },
  thresholds: thresholds({
    requests_held_back: ['rate<0.01'],
    'http_req_duration{name:place}': ['p(95)<1000', 'p(99)<3000'],
    order_completed: ['p(95)<5000'],
  }),
};

export default visit;
