// Three times what the shop can do. CAPACITY is that, in orders a second: half of it for a minute, then three times as much for a
// minute, then half again. Nobody looks at their orders afterwards, so that the rate is that of the orders alone, and whoever is
// held back goes away. What is admitted must be answered nearly as fast as before, and be at least as much as half of what the shop
// can do; five seconds later all must be as it was. There are so many customers that nobody's own quota has a part in it.
import { check } from 'k6';
import exec from 'k6/execution';
import { Counter, Trend } from 'k6/metrics';

import { customerOf, customers, orderOf } from '../lib/data.js';
import * as shop from '../lib/shop.js';

const capacity = Number(__ENV.CAPACITY || 40);
const PHASES = ['half', 'burst', 'recovery', 'after'];
const FLOOR_MS = 100;
const MANY = 1000;

function phase(startTime, factor, duration) {
  const rate = Math.max(1, Math.round(capacity * factor));
  return { executor: 'constant-arrival-rate', rate, timeUnit: '1s', duration, startTime, preAllocatedVUs: rate * 2, maxVUs: rate * 20 };
}

const took = Object.fromEntries(PHASES.map((name) => [name, new Trend(`took_${name}`, true)]));
const refusal = Object.fromEntries(PHASES.map((name) => [name, new Trend(`refusal_${name}`, true)]));
// Held back for a budget of the customer's own.
const limited = Object.fromEntries(PHASES.map((name) => [name, new Counter(`limited_${name}`)]));
// Neither admitted nor held back: another order of the same customer was being placed.
const busy = Object.fromEntries(PHASES.map((name) => [name, new Counter(`busy_${name}`)]));

export const options = {
  // What handleSummary reads.
  summaryTrendStats: ['count', 'avg', 'p(50)', 'p(95)', 'p(99)', 'max'],
  scenarios: {
    half: phase('0s', 0.5, '60s'),
    burst: phase('60s', 3, '60s'),
    recovery: phase('120s', 0.5, '5s'),
    after: phase('125s', 0.5, '30s'),
  },
  thresholds: {
    checks: ['rate==1'],
    dropped_iterations: ['count==0'],
    orders_accepted: ['count>0'],
  },
};

export default function () {
  const [name, number] = [exec.scenario.name, exec.scenario.iterationInTest];
  const { answer } = shop.place(customerOf(number), orderOf(number), shop.newKey());
  const held = shop.heldBack(answer);
  const well = held || answer.status === 202 || answer.status === 409;
  check(answer, { 'an order is accepted, or the customer told to come back': () => well });
  if (answer.status === 429) limited[name].add(1);
  if (answer.status === 409) busy[name].add(1);
  else (held ? refusal : took)[name].add(answer.timings.duration);
}

function row(data, name) {
  const [admitted, held] = [data.metrics[`took_${name}`], data.metrics[`refusal_${name}`]];
  const of = (metric, key) => (metric ? metric.values[key] : 0);
  return {
    phase: name, admitted: of(admitted, 'count'), held: of(held, 'count'), limited: of(data.metrics[`limited_${name}`], 'count'), busy: of(data.metrics[`busy_${name}`], 'count'),
    p50: of(admitted, 'p(50)'), p99: of(admitted, 'p(99)'), max: of(admitted, 'max'), refusal_p99: of(held, 'p(99)'),
  };
}

// Thresholds cannot compare two phases: this does, and says so in a file.
export function handleSummary(data) {
  const rows = PHASES.map((name) => row(data, name));
  const [half, burst, , after] = rows;
  const limit = Math.max(FLOOR_MS, 2 * half.p99);
  const shed = burst.held > 0 && half.held === 0 && rows.every((values) => values.limited === 0) && customers.length >= MANY;
  const served = burst.admitted >= half.admitted && half.admitted > 0 && after.admitted > 0;
  const held = shed && served && burst.p99 <= limit && after.held === 0 && after.p99 <= limit;
  const cells = (values) => `| ${values.join(' | ')} |\n`;
  const keys = Object.keys(half);
  const text = rows.map((values) => cells(keys.map((key) => (key === 'phase' ? values[key] : Math.round(values[key])))));
  const verdict = `${held ? 'held' : 'NOT HELD'}: admitted at three times the capacity with a p99 of ${Math.round(burst.p99)} ms, ` +
    `at most ${Math.round(limit)} ms${shed ? '' : '; CAPACITY is not what it can do: nothing was held back, or half of it, or quotas were used up'}` +
    `${served ? '' : '; less was admitted than at half of the capacity'}\n`;
  const table = cells(keys) + cells(keys.map(() => '---')) + text.join('') + '\n' + verdict;
  return { stdout: table, [__ENV.VERDICT]: held ? 'held' : 'broken' };
}
