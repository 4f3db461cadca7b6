// Whether everything works at all: two orders a second for half a minute.
import { thresholds, visit } from '../lib/visit.js';

export const options = {
  scenarios: {
    smoke: {
      executor: 'constant-arrival-rate', rate: 2, timeUnit: '1s', duration: '30s', preAllocatedVUs: 20, maxVUs: 80,
    },
  },
  thresholds: thresholds({
    dropped_iterations: ['count==0'],
    requests_held_back: ['rate==0'],
    'http_req_duration{name:place}': ['p(95)<1000'],
    order_completed: ['p(95)<5000'],
  }),
};

export default visit;
