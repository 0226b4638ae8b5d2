// A small HTTP receiver on loopback that keeps every request's exact bytes: a mall for webhooks, a merchant for notices.
// Never interprets what it gets: the tests and the judges do that.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { until } from './demo.mjs';

/** Starts one. `answer(request)` -> {status, body} may be exchanged at any time (`receiver.answer = …`). */
export async function startReceiver({ port = 0, answer = () => ({ status: 200, body: '' }) } = {}) {
  const receiver = { requests: [], answer };
  const server = createServer(async (incoming, outgoing) => {
    const chunks = [];
    for await (const chunk of incoming) chunks.push(chunk);
    const request = { method: incoming.method, path: incoming.url, headers: incoming.headers,
      body: Buffer.concat(chunks), at: Date.now() };
    receiver.requests.push(request);
    const reply = await receiver.answer(request);
    if (reply === 'hang') return; // the sender waits until it, or we, give up
    outgoing.writeHead(reply.status, { 'content-type': 'text/plain' }).end(reply.body ?? '');
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  receiver.url = `http://127.0.0.1:${server.address().port}`;
  receiver.stop = () => new Promise((done) => {
    server.close(done);
    server.closeAllConnections();
  });
  /** Waits for the first request that fits. */
  receiver.next = (what, fits, options) => until(what, () => receiver.requests.find(fits), options);
  return receiver;
}
