//! The accept loop of both servers: HTTP/1 and HTTP/2, plain or over TLS, with limits on idle time, body
//! and connections.
//! Never trusts a client to finish what it began; `axum::serve` has none of these timeouts.
//! One rule covers slow heads, half a preface and idle connections: no request in service for `idle` = cut.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::files;

/// What a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest time without a request in service: before the first head is complete, and between requests.
    pub idle: Duration,
    /// Longest time from a request's head to the end of its body.
    pub body: Duration,
    /// Connections served at once; more wait in the kernel's queue.
    pub connections: usize,
    /// Longest time that requests in service may take to end after `shutdown`.
    pub drain: Duration,
}

impl Limits {
    /// What the service and the emulator give, as far as the process has files for it.
    pub fn of_process() -> Self {
        Self {
            idle: Duration::from_secs(10),
            body: Duration::from_secs(15),
            connections: files::for_connections(),
            drain: Duration::from_secs(10),
        }
    }
}

/// The other end of the connection, an extension of every request. A proxy's address where one stands
/// in between: who reads it decides whom to believe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// That a request came over TLS, an extension of it, with the certificate that the client showed (DER) and
/// has the key of. Whether it is the right one is for the application to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverTls(pub Option<Bytes>);

/// A request's body did not end within [`Limits::body`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request's body came too slowly")]
pub struct SlowBody;

/// Serves `app` until `shutdown`, then lets the requests in service end, at most [`Limits::drain`] long.
///
/// # Errors
/// The listener has no address any more. Errors of single connections are their own.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    serve_any(listener, None, app, limits, shutdown).await
}

/// The same over TLS; every request has an [`OverTls`]. A handshake may take [`Limits::idle`].
///
/// # Errors
/// As of [`serve`].
pub async fn serve_tls(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    app: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    serve_any(listener, Some(tls.into()), app, limits, shutdown).await
}

async fn serve_any(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    app: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let local = listener.local_addr()?;
    let places = Arc::new(Semaphore::new(limits.connections));
    let stop = CancellationToken::new();
    let mut open = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let (stream, peer, place) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = open.join_next() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        let served = Served { app: app.clone(), peer, tls: None, limits, stop: stop.clone() };
        let tls = tls.clone();
        open.spawn(async move {
            served.any(stream, tls).await;
            drop(place);
        });
    }
    drop(listener);
    stop.cancel();
    let all_closed = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain, all_closed).await.is_err() {
        tracing::warn!(%local, connections = open.len(), "cut connections that did not end in time");
    }
    open.shutdown().await;
    Ok(())
}

/// The next connection and its place. Out of file descriptors is no reason to stop serving: it backs off.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed, so there is always a permit.
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, place),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One connection and what serves it.
#[derive(Clone)]
struct Served {
    app: Router,
    peer: SocketAddr,
    tls: Option<OverTls>,
    limits: Limits,
    stop: CancellationToken,
}

impl Served {
    async fn any(mut self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        // Fails only on a socket that is already dead.
        let _ = stream.set_nodelay(true);
        let Some(tls) = tls else { return self.connection(stream).await };
        let handshake = tokio::time::timeout(self.limits.idle, tls.accept(stream));
        match self.stop.run_until_cancelled(handshake).await {
            Some(Ok(Ok(stream))) => {
                let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                self.tls = Some(OverTls(shown.map(|shown| Bytes::copy_from_slice(shown))));
                self.connection(stream).await;
            }
            Some(Ok(Err(error))) => tracing::debug!(peer = %self.peer, %error, "no TLS"),
            Some(Err(_)) | None => {}
        }
    }

    async fn connection(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let (peer, limits) = (self.peer, self.limits);
        let in_service = Arc::new(InService::default());
        let service = service_fn(|request: Request<Incoming>| self.answer(request, in_service.enter()));
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.idle).max_buf_size(HEAD_MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(16_384)
            .max_concurrent_streams(100)
            .keep_alive_interval(Duration::from_secs(20));
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let asked = tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%peer, %error, "connection ended");
                }
                false
            }
            () = in_service.idle_for(limits.idle) => {
                tracing::debug!(%peer, "cut an idle connection");
                false
            }
            () = self.stop.cancelled() => true,
        };
        if asked {
            connection.as_mut().graceful_shutdown();
            // Requests in service may end; a connection without one has nothing to wait for.
            tokio::select! {
                _ = connection => {}
                () = in_service.idle_for(Duration::from_secs(1)) => {}
            }
        }
    }

    /// What answers one request. It owns all it needs: HTTP/2 serves several at once.
    fn answer(
        &self,
        request: Request<Incoming>,
        guard: Guard,
    ) -> impl Future<Output = Result<Response<Counted>, Infallible>> + Send + 'static {
        let body_timeout = self.limits.body;
        let mut request = request.map(|body| {
            if body.is_end_stream() {
                Body::empty()
            } else {
                Body::new(TimedBody { inner: body, deadline: Box::pin(sleep(body_timeout)) })
            }
        });
        request.extensions_mut().insert(PeerAddr(self.peer));
        if let Some(tls) = &self.tls {
            request.extensions_mut().insert(tls.clone());
        }
        let answered = self.app.clone().oneshot(request);
        async move {
            let response = answered.await?;
            Ok(response.map(|inner| Counted { inner, _guard: guard }))
        }
    }
}

/// How many requests of a connection are in service, from the head's end to the last byte of the answer.
#[derive(Default)]
struct InService {
    count: AtomicUsize,
    changed: Notify,
}

/// One request in service.
struct Guard(Arc<InService>);

impl InService {
    fn enter(self: &Arc<Self>) -> Guard {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_one();
        Guard(Arc::clone(self))
    }

    /// Ends when no request has been in service for `limit`.
    async fn idle_for(&self, limit: Duration) {
        loop {
            if self.count.load(Ordering::SeqCst) > 0 {
                self.changed.notified().await;
            } else if tokio::time::timeout(limit, self.changed.notified()).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_one();
    }
}

/// An answer's body, in service until it is dropped.
struct Counted {
    inner: Body,
    _guard: Guard,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A request's body with a deadline for its end.
struct TimedBody {
    inner: Incoming,
    deadline: Pin<Box<Sleep>>,
}

impl HttpBody for TimedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(axum::Error::new(SlowBody))));
        }
        let next = ready!(Pin::new(&mut self.inner).poll_frame(context));
        Poll::Ready(next.map(|frame| frame.map_err(axum::Error::new)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Bytes that a request's head may take.
const HEAD_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use axum::extract::Extension;
    use axum::http::StatusCode;
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;

    const SHORT: Limits = Limits {
        idle: Duration::from_millis(300),
        body: Duration::from_millis(300),
        connections: 2,
        drain: Duration::from_millis(500),
    };

    struct Server {
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        task: JoinHandle<io::Result<()>>,
    }

    async fn start(limits: Limits) -> Server {
        let app = Router::new()
            .route("/", get(|Extension(peer): Extension<PeerAddr>| async move { peer.0.ip().to_string() }))
            .route("/echo", post(echo))
            .route("/slow", get(|| async { sleep(Duration::from_millis(400)).await }))
            .route("/forever", get(forever));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(serve(listener, app, limits, async move {
            stopped.await.ok();
        }));
        Server { address, stop, task }
    }

    async fn echo(body: Body) -> Result<Bytes, (StatusCode, String)> {
        axum::body::to_bytes(body, 1024).await.map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
    }

    async fn forever() -> Body {
        Body::from_stream(futures_util::stream::unfold((), |()| async {
            sleep(Duration::from_millis(100)).await;
            Some((Ok::<_, Infallible>("tick\n"), ()))
        }))
    }

    /// Everything the server sends until it closes.
    async fn talk(address: SocketAddr, said: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        // A reset is a way to close, too.
        let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut heard)).await.unwrap();
        String::from_utf8(heard).unwrap()
    }

    #[tokio::test]
    async fn answers_and_names_the_peer() {
        let server = start(SHORT).await;
        let heard = talk(server.address, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(heard.starts_with("HTTP/1.1 200") && heard.ends_with("127.0.0.1"), "{heard}");
    }

    #[tokio::test]
    async fn unfinished_heads_are_cut() {
        let server = start(SHORT).await;
        for said in [
            "",
            "G",
            "PRI * HTTP/2",
            "GET / HTTP/1.1\r\nhost: x\r\nx-slow: ",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ] {
            let began = Instant::now();
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            // A byte now and then must not help.
            let (mut reader, mut writer) = stream.into_split();
            let drip = tokio::spawn(async move {
                while !said.is_empty() && !said.ends_with('\n') && writer.write_all(b"a").await.is_ok() {
                    sleep(Duration::from_millis(50)).await;
                }
                writer
            });
            let mut heard = Vec::new();
            let _ =
                tokio::time::timeout(Duration::from_secs(3), reader.read_to_end(&mut heard)).await.unwrap();
            assert!(began.elapsed() < Duration::from_secs(2), "{said:?} held {:?}", began.elapsed());
            drip.abort();
        }
    }

    #[tokio::test]
    async fn a_slow_body_is_an_error_to_the_handler() {
        let server = start(SHORT).await;
        let opening = "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n";
        let heard = talk(server.address, &format!("{opening}12345")).await;
        assert!(heard.starts_with("HTTP/1.1 400") && heard.contains("too slowly"), "{heard}");
        let heard = talk(server.address, &format!("{opening}1234567890")).await;
        assert!(heard.starts_with("HTTP/1.1 200") && heard.ends_with("1234567890"), "{heard}");
    }

    #[tokio::test]
    async fn a_long_answer_is_not_cut_by_the_idle_limit() {
        let server = start(SHORT).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /forever HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut ticks = 0;
        let mut buffer = [0; 1024];
        while ticks < 12 {
            let read = stream.read(&mut buffer).await.unwrap();
            assert_ne!(read, 0, "cut after {ticks} ticks");
            ticks += String::from_utf8_lossy(&buffer[..read]).matches("tick").count();
        }
    }

    #[tokio::test]
    async fn one_more_than_the_limit_waits() {
        let server = start(Limits { idle: Duration::from_secs(30), ..SHORT }).await;
        let first = TcpStream::connect(server.address).await.unwrap();
        let _second = TcpStream::connect(server.address).await.unwrap();
        let request = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let third = tokio::spawn(async move { talk(server.address, request).await });
        sleep(Duration::from_millis(200)).await;
        assert!(!third.is_finished(), "served beyond the limit");
        drop(first);
        assert!(third.await.unwrap().starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn shutdown_lets_requests_end_and_refuses_new_ones() {
        let server = start(SHORT).await;
        let address = server.address;
        let running =
            tokio::spawn(async move { talk(address, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await });
        sleep(Duration::from_millis(100)).await;
        server.stop.send(()).unwrap();
        assert!(running.await.unwrap().starts_with("HTTP/1.1 200"));
        server.task.await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn shutdown_cuts_what_does_not_end() {
        let server = start(SHORT).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /forever HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut buffer = [0; 16];
        stream.read_exact(&mut buffer).await.unwrap();
        let began = Instant::now();
        server.stop.send(()).unwrap();
        server.task.await.unwrap().unwrap();
        assert!(began.elapsed() >= SHORT.drain, "cut at once");
        assert!(began.elapsed() < Duration::from_secs(3));
    }
}
