// Who orders, and what: tokens that were signed before, and the orders of a real week (see data/README.md).
import { SharedArray } from 'k6/data';

// One line of JSON for each customer, as `portolan token --count` prints them.
export const customers = new SharedArray('customers', () =>
  open(__ENV.TOKENS)
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line)),
);

// The lines of each order, merged by product. No field of these columns is quoted.
export const orders = new SharedArray('orders', () => {
  const rows = open('../../data/orders-week.csv').split('\n').slice(1);
  const byInvoice = new Map();
  for (const row of rows.filter((row) => row !== '')) {
    const cells = row.split(',');
    const [invoice, sku, quantity] = [cells[0], cells[4], Number(cells[5])];
    if (!byInvoice.has(invoice)) byInvoice.set(invoice, new Map());
    const lines = byInvoice.get(invoice);
    lines.set(sku, (lines.get(sku) || 0) + quantity);
  }
  return [...byInvoice.values()].map((lines) => [...lines].map(([sku, quantity]) => ({ sku, quantity })));
});

// Customers and orders in turns, so that nobody's own quota or lock is what is measured.
export function customerOf(iteration) {
  return customers[iteration % customers.length];
}

export function orderOf(iteration) {
  return orders[iteration % orders.length];
}
