'use strict';
// Listens to /events, draws what it hears, and works the controls. What others wrote is only ever set as text.

const SPAN = 180_000; // ms, the width of a chart
const STALE = 4_000; // ms without a sample, where one comes each second
const STATES = { open: 'open', half_open: 'half-open', closed: 'closed', isolated: 'isolated' };
const $ = selector => document.querySelector(selector);
let samples = [];

// --- Numbers and text

const last = () => samples[samples.length - 1];
const sum = values => values.reduce((a, b) => a + b, 0);
const most = values => values.reduce((a, b) => Math.max(a, b ?? 0), 0);
const clock = time => new Date(time).toLocaleTimeString('en-GB');
const rate = number => `${number < 9.95 && !Number.isInteger(number) ? number.toFixed(1) : Math.round(number)}/s`;
const ms = number => number == null ? '–' : number < 9.95 ? `${number.toFixed(1)} ms` : `${Math.round(number)} ms`;
const percent = part => part == null ? '–' : `${Math.round(100 * part)} %`;
const upTo = (number, limit) => number == null ? 'unknown' : number >= limit ? `${limit} or more` : `${number}`;
const perSecond = (sample, number) => number / Math.max(sample.seconds, 0.001);
const text = (element, value) => { if (element.textContent !== value) element.textContent = value; };

// --- Charts: SVG, 180 units wide, one for each second

function shape(svg, d, name) {
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('class', name);
  path.setAttribute('d', d);
  svg.append(path);
}

const x = at => 180 * (1 - (last().at - at) / SPAN);
const bar = (left, right, low, high) => `M${left.toFixed(2)} ${low.toFixed(2)}V${high.toFixed(2)}H${right.toFixed(2)}V${low.toFixed(2)}z`;
const startOf = sample => x(sample.at - 1000 * sample.seconds);

/** The least round number that is not less. */
function round(number) {
  const unit = 10 ** Math.floor(Math.log10(Math.max(number, 1)));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find(step => step * unit >= number) * unit;
}

/** Marks the time in which payments was told to do wrong. */
function incident(svg, height) {
  const told = samples.filter(sample => sample.payments && sample.payments.mode !== 'healthy');
  shape(svg, told.map(sample => bar(startOf(sample), x(sample.at) + 0.1, height, 0)).join(''), 'incident');
}

/**
 * Draws one chart.
 * series: { name, colour, values: sample => number or null, show: what the legend says of it, kind: 'bars' (stacked), 'area' or 'line' }
 */
function chart(id, { now, top, unit, series, tell }) {
  const figure = $(`#${id}`), svg = figure.querySelector('svg');
  const stacked = samples.map(sample => sum(series.filter(one => one.kind === 'bars').map(one => one.values(sample) ?? 0)));
  top = top ?? round(Math.max(most(stacked), ...series.filter(one => one.kind !== 'bars').map(one => most(samples.map(one.values)))));
  const y = value => 60 - 58 * Math.min(value / top, 1);
  svg.replaceChildren();
  incident(svg, 60);
  const lows = samples.map(() => 0);
  for (const one of series) {
    const values = samples.map(one.values);
    if (one.kind === 'bars') {
      shape(svg, samples.map((sample, i) => {
        const low = lows[i];
        lows[i] += values[i] ?? 0;
        return values[i] ? bar(startOf(sample), x(sample.at), y(low), y(lows[i])) : '';
      }).join(''), one.colour);
      continue;
    }

    if (one.kind === 'area') {
      shape(svg, samples.map((sample, i) => values[i] == null ? '' : bar(startOf(sample), x(sample.at) + 0.05, 60, y(values[i]))).join(''), `${one.colour} area`);
    }

    // A second without a value is a gap; a value alone between two gaps is a dash of its second.
    shape(svg, samples.map((sample, i) => values[i] == null ? ''
      : `${i > 0 && values[i - 1] != null ? 'L' : `M${startOf(sample).toFixed(2)} ${y(values[i]).toFixed(2)}L`}${x(sample.at).toFixed(2)} ${y(values[i]).toFixed(2)}`).join(''), `line ${one.colour}`);
  }

  text(figure.querySelector('.now'), now);
  legend(figure, [...series.map(one => [one.show ? `${one.name} ${one.show}` : one.name, `key ${one.colour}`]), [`top ${unit(top)}`, 'top']]);
  svg.setAttribute('aria-label', `${figure.querySelector('h3').textContent}, last three minutes. Now ${now}. ${tell ?? series.map(one => `${one.name} ${one.show ?? ''}, most ${unit(most(samples.map(one.values)))}`).join('; ')}.`);
}

function legend(figure, entries) {
  figure.querySelector('.legend').replaceChildren(...entries.map(([words, name]) => Object.assign(document.createElement('span'), { textContent: words, className: name })));
}

// --- The circuit

/** From the changes that were heard of, and where none was heard of, from what a sample saw. */
function circuitSegments() {
  const segments = [];
  const enter = (state, at) => {
    const current = segments[segments.length - 1];
    if (current?.state !== state) {
      if (current) current.to = at;
      segments.push({ state, from: at, to: at });
    }
  };
  for (const sample of samples) {
    if (!sample.circuit) continue;
    if (segments.length === 0) enter(sample.changes.length ? (sample.changes[0].state === 'open' ? 'closed' : 'open') : sample.circuit, sample.at - 1000 * sample.seconds);
    for (const change of sample.changes) enter(change.state, change.at);
    enter(sample.circuit, sample.at);
    segments[segments.length - 1].to = sample.at;
  }
  return segments;
}

function circuit() {
  const figure = $('#circuit'), svg = figure.querySelector('svg'), segments = circuitSegments();
  const lanes = ['open', 'half_open', 'closed'], colours = { open: 'red', half_open: 'amber', closed: 'green', isolated: 'red' };
  svg.replaceChildren();
  incident(svg, 30);
  for (const { state, from, to } of segments) {
    const lane = Math.max(lanes.indexOf(state), 0);
    // What takes milliseconds is drawn as half a second, or it would not be seen.
    shape(svg, bar(x(from), Math.max(x(to), x(from) + 0.5), 10 * lane + 8, 10 * lane + 2), colours[state]);
  }

  const whole = sum(segments.map(one => one.to - one.from));
  const share = state => whole ? sum(segments.filter(one => one.state === state).map(one => one.to - one.from)) / whole : 0;
  const opened = segments.filter((one, i) => one.state === 'open' && i > 0).length;
  const now = STATES[last().circuit] ?? 'none: this shop runs without it';
  figure.querySelectorAll('.parts span').forEach((part, i) => text(part, percent(share(lanes[i]))));
  text(figure.querySelector('.now'), now);
  const rejected = sum(samples.map(sample => sample.rejected));
  legend(figure, [[`opened ${opened} times, answered ${rejected} calls in the place of payments`, ''], ['shaded: payments told to do wrong', 'key incident-key']]);
  svg.setAttribute('aria-label', `Circuit to payments, last three minutes. Now ${now}. Open ${percent(share('open'))}, half-open ${percent(share('half_open'))}, closed ${percent(share('closed'))} of the time; opened ${opened} times.`);
  document.title = last().circuit ? `Shop: circuit ${now}` : 'Shop';
  if (last().circuit) announce(`The circuit to payments has ${last().circuit === 'closed' ? 'closed' : 'opened'}.`, 'circuit');
}

// --- What a screen reader is told: only what changes seldom

const told = {};
function announce(words, about) {
  const news = told[about] !== undefined || about === 'connection';
  if (told[about] === words) return;
  told[about] = words;
  if (news) text($(`#${about}-news`), words);
}

// --- Everything that a sample changes

function answerSeries() {
  const names = { 201: ['paid', 'green'], 402: ['declined', 'blue'], 429: ['refused', 'violet'], 502: ['payments failed', 'red'], 503: ['come back later', 'violet'], 504: ['too late', 'amber'] };
  const seen = [...new Set(samples.flatMap(sample => Object.keys(sample.answers)))].sort();
  return (seen.length ? seen : ['201']).map(status => ({
    name: `${status}${names[status] ? ` ${names[status][0]}` : ''}`,
    colour: names[status]?.[1] ?? (status < 400 ? 'green' : status < 500 ? 'blue' : 'red'),
    kind: 'bars',
    values: sample => perSecond(sample, sample.answers[status] ?? 0),
    show: rate(perSecond(last(), last().answers[status] ?? 0)),
  }));
}

function draw() {
  if (samples.length === 0) return;
  const now = last(), counted = (name, colour, key) => ({ name, colour, kind: 'bars', values: sample => perSecond(sample, sample[key]), show: rate(perSecond(now, now[key])) });
  circuit();
  const answered = sum(Object.values(now.answers));
  chart('answers', { now: rate(perSecond(now, answered)), unit: rate, series: answerSeries() });
  chart('latency', { now: now.p50 == null ? 'no orders' : `${ms(now.p50)}`, unit: ms, series: [
    { name: 'p50', colour: 'blue', kind: 'line', values: sample => sample.p50, show: ms(now.p50) },
    { name: 'p99', colour: 'violet', kind: 'line', values: sample => sample.p99, show: ms(now.p99) }] });
  chart('budget', { now: percent(now.spent50), top: 1, unit: percent, series: [
    { name: 'p50', colour: 'blue', kind: 'line', values: sample => sample.spent50, show: percent(now.spent50) },
    { name: 'p99', colour: 'violet', kind: 'line', values: sample => sample.spent99, show: percent(now.spent99) }] });
  chart('retries', { now: rate(perSecond(now, now.retries)), unit: rate, series: [counted('attempts after the first', 'amber', 'retries')] });
  chart('retry-budget', { now: now.retriesLeft == null ? 'none' : `${Math.floor(now.retriesLeft)}`, unit: number => `${Math.round(number)}`, series: [
    { name: 'retries that it allows now', colour: 'blue', kind: 'area', values: sample => sample.retriesLeft }] });
  chart('limit', { now: now.limit ? `${now.limit.left} of ${now.limit.most}` : 'not asked', top: now.limit?.most, unit: number => `${Math.round(number)}`, series: [
    { name: 'permits', colour: 'blue', kind: 'area', values: sample => sample.limit?.left },
    { name: 'refused', colour: 'red', kind: 'line', values: sample => sample.refused ? perSecond(sample, sample.refused) : null, show: rate(perSecond(now, now.refused)) }] });
  chart('replays', { now: rate(perSecond(now, now.replays)), unit: rate, series: [counted('answered from the key', 'green', 'replays')] });
  chart('deliveries', { now: rate(perSecond(now, now.delivered)), unit: rate, series: [counted('delivered', 'green', 'delivered'), counted('failed, to be retried', 'red', 'undelivered')] });
  chart('backlog', { now: upTo(now.pending, 200), unit: number => `${Math.round(number)}`, series: [
    { name: 'pending', colour: 'blue', kind: 'area', values: sample => sample.pending, show: upTo(now.pending, 200) },
    { name: 'dead letters', colour: 'violet', kind: 'line', values: sample => sample.deadLetters, show: upTo(now.deadLetters, 200) }] });
  controls(now);
}

// --- Controls

// The form shows how payments is, until somebody begins to change it.
let isTouched = false;
function controls(now) {
  const fault = now.payments, mode = fault?.mode ?? 'unreachable';
  const how = !fault || mode === 'healthy' ? mode : `${mode}${mode === 'slow' ? ` by ${fault.delayMs} ms` : ''}, ${percent(fault.ratio)} of calls`;
  text($('#incident'), `payments: ${how}`);
  $('#incident').dataset.state = mode === 'healthy' ? 'healthy' : 'trouble';
  const form = $('#payments');
  if (!isTouched && fault) {
    form.elements.mode.value = mode;
    form.elements.share.value = Math.round(100 * fault.ratio);
    form.elements.delay.value = fault.delayMs;
  }

  const broken = now.customerBroken;
  text($('#customer-state'), broken == null ? 'does not say how it is.' : broken ? 'is broken: it answers 500.' : 'is well.');
  text($('#customer-button'), broken ? 'Mend it' : 'Break it');
  const load = now.load;
  text($('#progress'), !load ? 'No load runs.' : `${load.isRunning ? 'Runs' : 'Ended'}: ${load.sent} of ${load.perSecond * load.seconds} orders sent, ${load.answered} answered.`);
}

/** Asks the shop; its refusals are shown in its own words. */
async function tell(form, method, path, body, done) {
  const answer = form.querySelector('.answer');
  let words, refused = true;
  try {
    const response = await fetch(path, { method, headers: body ? { 'Content-Type': 'application/json' } : {}, body: body && JSON.stringify(body), signal: AbortSignal.timeout(10_000) });
    refused = !response.ok;
    const problem = refused ? await response.json().catch(() => ({})) : null;
    words = refused ? Object.values(problem.errors ?? {}).flat().join(' ') || problem.detail || problem.title || `The shop answered ${response.status}.` : done;
  } catch {
    words = 'The shop does not answer.';
  }
  text(answer, words);
  answer.classList.toggle('refused', refused);
  return !refused;
}

$('#payments').addEventListener('input', () => { isTouched = true; });
$('#payments').addEventListener('submit', async event => {
  event.preventDefault();
  const { mode, share, delay } = event.target.elements;
  isTouched = !await tell(event.target, 'POST', '/controls/payments', { mode: mode.value, ratio: Number(share.value) / 100, delayMs: Number(delay.value) }, `Payments is told to be ${mode.value}.`);
});
$('#load').addEventListener('submit', event => {
  event.preventDefault();
  const { perSecond, seconds } = event.target.elements;
  tell(event.target, 'POST', '/controls/load', { perSecond: Number(perSecond.value), seconds: Number(seconds.value) }, 'Started.');
});
$('#stop').addEventListener('click', () => tell($('#load'), 'DELETE', '/controls/load', null, 'Stopped.'));
$('#customer').addEventListener('submit', event => {
  event.preventDefault();
  const broken = !last()?.customerBroken;
  tell(event.target, 'POST', '/controls/customer', { broken }, `The customer is told to be ${broken ? 'broken' : 'well'}.`);
});

// --- The connection

let source, heard = 0, heardAt, lostAt = null;

function connection(state, words, banner) {
  const pill = $('#connection');
  pill.dataset.state = state;
  text(pill, words);
  document.body.classList.toggle('old', state === 'lost' || state === 'stale');
  text($('#banner'), banner ?? '');
  $('#banner').hidden = !banner;
  $('#banner').classList.toggle('good', state === 'live');
}

function trouble(state, words) {
  lostAt = lostAt ?? heardAt ?? Date.now();
  const banner = `${words} since ${clock(lostAt)}. ${heardAt ? 'What is shown is as of then.' : 'There is nothing to show yet.'} Trying again.`;
  connection(state, `${state} since ${clock(lostAt)}`, banner);
  announce(banner, 'connection');
}

function hear(news) {
  samples.push(...news);
  samples = samples.filter(sample => sample.at > last().at - SPAN);
  heard = performance.now();
  heardAt = Date.now();
  if (lostAt !== null) {
    const banner = `Live again at ${clock(heardAt)}, after ${Math.max(1, Math.round((heardAt - lostAt) / 1000))} s without news.`;
    lostAt = null;
    connection('live', 'live', banner);
    announce(banner, 'connection');
    setTimeout(() => { if (lostAt === null) connection('live', 'live'); }, 10_000);
  } else if ($('#connection').dataset.state !== 'live') {
    connection('live', 'live');
    told.connection = 'live';
  }
  draw();
}

/** An event source does not tell why it was refused. */
async function refusal() {
  try {
    const response = await fetch('/events', { signal: AbortSignal.timeout(2_000) });
    if (response.ok) {
      await response.body.cancel();
      return;
    }
    const problem = await response.json();
    const banner = `${problem.title} ${problem.detail ?? ''} Trying again.`;
    connection('lost', 'refused', banner);
    announce(banner, 'connection');
  } catch {
    // It is lost, as was said.
  }
}

function listen() {
  source = new EventSource('/events');
  source.addEventListener('history', event => {
    // Of this shop or the next one: it knows its past.
    samples = [];
    const past = JSON.parse(event.data);
    if (past.length) hear(past);
  });
  source.addEventListener('samples', event => hear(JSON.parse(event.data)));
  source.addEventListener('error', () => {
    trouble('lost', 'The connection to the shop is lost');
    // The browser tries again by itself, unless the shop refused.
    if (source.readyState === EventSource.CLOSED) {
      refusal();
      setTimeout(listen, 3_000);
    }
  });
}

setInterval(() => {
  if (source.readyState === EventSource.OPEN && heard > 0 && performance.now() - heard > STALE) trouble('stale', 'The connection is open, but no news have come');
}, 1_000);

// --- Orders

const asked = new URLSearchParams(location.search), status = asked.get('status') ?? '', cursor = asked.get('cursor');

function cell(words, name) {
  const td = document.createElement('td');
  td.textContent = words;
  if (name) td.className = name;
  return td;
}

async function orders() {
  const query = new URLSearchParams({ size: '10' });
  if (status) query.set('status', status);
  if (cursor) query.set('cursor', cursor);
  const answer = $('#orders .answer');
  try {
    const response = await fetch(`/orders?${query}`, { signal: AbortSignal.timeout(10_000) }), page = await response.json();
    if (!response.ok) {
      text(answer, page.detail ?? page.title ?? `The shop answered ${response.status}.`);
      return;
    }
    $('#orders tbody').replaceChildren(...page.items.map(order => {
      const row = document.createElement('tr');
      row.append(cell(order.item), cell((order.cents / 100).toFixed(2), 'number'), cell(order.status), cell(clock(order.placedAt)));
      return row;
    }));
    text(answer, page.items.length ? '' : 'None yet.');
    for (const [id, next] of [['#newer', page.previous], ['#older', page.next]]) {
      $(id).hidden = !next;
      if (next) $(id).href = `/?${new URLSearchParams({ ...(status && { status }), cursor: next })}#orders`;
    }
  } catch {
    // The connection's own words say it.
  }
}

for (const link of document.querySelectorAll('[data-status]')) {
  if (link.dataset.status === status) link.setAttribute('aria-current', 'page');
}

listen();
orders();
// A page further back stays as it is.
if (!cursor) setInterval(() => { if (lostAt === null && !document.hidden) orders(); }, 2_000);
