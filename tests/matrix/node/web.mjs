/** A web agent on express or on `http` alone (SERVER): each `GET /work/<n>` makes the calls of KINDS. */
import http from 'node:http';
import express from 'express';
import { PORT, make } from './calls.mjs';

function onExpress() {
  const app = express();
  app.get('/work/:n', async (request, response) => {
    await make(Number(request.params.n));
    response.json({ n: request.params.n });
  });
  return app;
}

/** Answers from inside an event of the request, where a context is lost most easily. */
function onHttp(request, response) {
  request.resume();
  request.on('end', () => {
    make(Number(request.url.split('/').pop())).then(
      () => response.end('ok'),
      error => response.writeHead(500).end(String(error)),
    );
  });
}

http.createServer(process.env.SERVER === 'express' ? onExpress() : onHttp).listen(PORT, '127.0.0.1', 512);
