#include "http/server.h"

#include <mutex>

#include <boost/asio/dispatch.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>

#include "common/log.h"
#include "http/connection.h"

namespace baton::http {

namespace {

using asio::ip::tcp;

// A strand around the concrete executor where it is known: one virtual call less per operation.
asio::any_io_executor MakeStrand(const asio::any_io_executor& executor) {
  if (const auto* context = executor.target<asio::io_context::executor_type>())
    return asio::make_strand(*context);
  return asio::make_strand(executor);
}

Result<tcp::endpoint> ResolveListener(const asio::any_io_executor& executor,
                                      const std::string& host, uint16_t port) {
  boost::system::error_code ec;
  const auto address = asio::ip::make_address(host, ec);
  if (!ec) return tcp::endpoint(address, port);
  tcp::resolver resolver(executor);
  const auto found = resolver.resolve(host, std::to_string(port), tcp::resolver::passive, ec);
  if (ec || found.empty())
    return Error(Code::kUnavailable, "cannot listen on {}:{}: {}", host, port,
                 ec ? ec.message() : "the name has no address");
  return found.begin()->endpoint();
}

// How long to wait before the next accept when the process is out of descriptors.
constexpr auto kAcceptPause = std::chrono::milliseconds(100);

}  // namespace

// The acceptor is used from the accept handler and from whatever thread calls Drain or Stop, so
// its mutex guards every call to it.
struct Server::Impl : std::enable_shared_from_this<Server::Impl> {
  Impl(asio::any_io_executor executor_in, ServerOptions options)
      : executor(std::move(executor_in)),
        core(std::make_shared<ServerCore>(std::move(options))),
        acceptor(executor),
        pause(executor),
        reload(executor) {}

  Status Listen();
  asio::any_io_executor NextExecutor();
  void Accept();
  void OnAccept(const boost::system::error_code& ec, TcpSocket socket);
  void CloseAcceptor();
  void WatchCertificates();

  const asio::any_io_executor executor;
  const std::shared_ptr<ServerCore> core;
  std::mutex mutex;
  tcp::acceptor acceptor;
  asio::steady_timer pause;
  asio::steady_timer reload;  // of certificates
  uint16_t port = 0;
  size_t accepted = 0;
};

// For the next connection.
asio::any_io_executor Server::Impl::NextExecutor() {
  const auto& loops = core->options().loops;
  return loops.empty() ? MakeStrand(executor) : loops[accepted++ % loops.size()];
}

Status Server::Impl::Listen() {
  const ServerOptions& options = core->options();
  auto endpoint = ResolveListener(executor, options.host, options.port);
  if (!endpoint.ok()) return endpoint.status();
  const std::lock_guard lock(mutex);
  boost::system::error_code ec;
  acceptor.open(endpoint->protocol(), ec);
  if (!ec) acceptor.set_option(tcp::acceptor::reuse_address(true), ec);
  if (!ec) acceptor.bind(*endpoint, ec);
  if (!ec) acceptor.listen(asio::socket_base::max_listen_connections, ec);
  if (ec) {
    boost::system::error_code ignored;
    acceptor.close(ignored);
    return Error(Code::kUnavailable, "cannot listen on {}:{}: {} (errno {})", options.host,
                 options.port, ec.message(), ec.value());
  }
  port = acceptor.local_endpoint(ec).port();
  return Status::Ok();
}

void Server::Impl::Accept() {
  const std::lock_guard lock(mutex);
  if (!acceptor.is_open()) return;
  acceptor.async_accept(NextExecutor(), [self = shared_from_this()](
                                                  const boost::system::error_code& ec,
                                                  TcpSocket socket) {
    self->OnAccept(ec, std::move(socket));
  });
}

void Server::Impl::OnAccept(const boost::system::error_code& ec, TcpSocket socket) {
  if (ec == asio::error::operation_aborted) return;
  if (ec) {
    log::error("http: accepting a connection failed: {}", ec.message());
    const std::lock_guard lock(mutex);
    if (!acceptor.is_open()) return;
    pause.expires_after(kAcceptPause);
    pause.async_wait([self = shared_from_this()](const boost::system::error_code&) {
      self->Accept();
    });
    return;
  }
  auto connection = std::make_shared<Connection>(core, std::move(socket));
  const bool welcome = core->Register(connection);
  asio::dispatch(connection->executor(), [connection, welcome] {
    if (welcome) {
      connection->Start();
    } else {
      connection->Refuse();
    }
  });
  Accept();
}

void Server::Impl::CloseAcceptor() {
  const std::lock_guard lock(mutex);
  boost::system::error_code ignored;
  acceptor.close(ignored);
  pause.cancel();
  reload.cancel();
}

void Server::Impl::WatchCertificates() {
  const std::lock_guard lock(mutex);
  if (!acceptor.is_open()) return;
  reload.expires_after(core->options().tls.reload_interval);
  reload.async_wait([weak = weak_from_this()](const boost::system::error_code& ec) {
    const auto self = weak.lock();
    if (ec || !self) return;
    self->core->tls()->ReloadIfChanged();
    self->WatchCertificates();
  });
}

Server::Server(asio::any_io_executor executor, ServerOptions options)
    : impl_(std::make_shared<Impl>(std::move(executor), std::move(options))) {}

Server::~Server() { Stop(); }

void Server::Route(std::string method, std::string path, Handler handler) {
  impl_->core->routes().Add(std::move(method), std::move(path), std::move(handler));
}

void Server::SetFallback(Handler handler) { impl_->core->set_fallback(std::move(handler)); }

void Server::SetFilter(Filter filter) { impl_->core->set_filter(std::move(filter)); }

void Server::SetObserver(std::function<void(const Request&, const Outcome&)> observer) {
  impl_->core->set_observer(std::move(observer));
}

void Server::SetErrorBody(std::function<Response(Request&, int status, std::string_view message)> make) {
  impl_->core->set_error_body(std::move(make));
}

Status Server::Start() {
  const ServerTlsOptions& tls = impl_->core->options().tls;
  if (tls.enabled()) {
    auto context = TlsServerContext::Load(tls);
    if (!context.ok()) return context.status();
    impl_->core->set_tls(std::move(*context));
  }
  if (Status status = impl_->Listen(); !status.ok()) return status;
  if (tls.enabled()) impl_->WatchCertificates();
  impl_->Accept();
  return Status::Ok();
}

uint16_t Server::port() const { return impl_->port; }

size_t Server::Connections() const { return impl_->core->connection_count(); }

size_t Server::HeldBodyBytes() const { return impl_->core->bodies().held(); }

void Server::Drain() {
  impl_->core->StartDraining();
  impl_->CloseAcceptor();
  for (auto& connection : impl_->core->Connections()) {
    const asio::any_io_executor executor = connection->executor();
    asio::post(executor, [connection = std::move(connection)] { connection->Drain(); });
  }
}

size_t Server::OpenRequests() const { return impl_->core->open_requests(); }

void Server::Stop() {
  impl_->core->StartDraining();
  impl_->CloseAcceptor();
  for (auto& connection : impl_->core->Connections()) {
    const asio::any_io_executor executor = connection->executor();
    asio::post(executor, [connection = std::move(connection)] { connection->Abort(); });
  }
}

}  // namespace baton::http
