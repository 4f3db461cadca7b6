// Ten times the usual for half a minute, then as before: what is too much is held back, what is accepted is completed, and
// the minute after is like the one before.
import { thresholds, visit } from '../lib/visit.js';

const rate = Number(__ENV.RATE || 5);

function phase(startTime, factor, duration) {
  return {
    executor: 'constant-arrival-rate', rate: rate * factor, timeUnit: '1s', duration, startTime,
    preAllocatedVUs: rate * factor * 4, maxVUs: rate * factor * 30,
  };
}

export const options = {
  scenarios: {
    before: phase('0s', 1, '30s'),
    spike: phase('30s', 10, '30s'),
    // Half a minute later, when everybody who came in the spike has been served.
    after: phase('90s', 1, '30s'),
  },
  thresholds: thresholds({
    'http_req_duration{scenario:before,name:place}': ['p(95)<1000'],
    'http_req_duration{scenario:after,name:place}': ['p(95)<1000'],
    'order_completed{scenario:after}': ['p(95)<5000'],
  }),
};

export default visit;
