// For tests only: an etcd of one's own, and something that only looks like one.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "comm/etcd_store.h"
#include "io/testing.h"

namespace colossus {

// A socket on a free port of 127.0.0.1.
class LoopbackSocket {
 public:
  LoopbackSocket() : descriptor_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    CHECK(descriptor_ >= 0);
    sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(address);
    CHECK(::bind(descriptor_, reinterpret_cast<sockaddr*>(&address), size) == 0);
    CHECK(::getsockname(descriptor_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
  }
  ~LoopbackSocket() { ::close(descriptor_); }
  LoopbackSocket(const LoopbackSocket&) = delete;
  LoopbackSocket& operator=(const LoopbackSocket&) = delete;

  int descriptor() const { return descriptor_; }
  std::string endpoint() const { return fmt::format("127.0.0.1:{}", port_); }

 private:
  int descriptor_;
  int port_ = 0;
};

// Is killed when the thread that started it ends, however that happens.
class EtcdServer {
 public:
  static bool installed() {
    static const bool found = std::system("command -v etcd >/dev/null 2>&1") == 0;
    return found;
  }

  // Comes up on a free port, with its data in a directory that goes away.
  EtcdServer() {
    constexpr int kAttempts = 5;  // between looking for a port and taking it somebody else can take it
    for (int attempt = 0; attempt < kAttempts && pid_ < 0; ++attempt) {
      endpoint_ = LoopbackSocket().endpoint();
      start();
    }
    CHECK(pid_ >= 0, "etcd is installed and does not start");
  }
  ~EtcdServer() { kill(); }
  EtcdServer(const EtcdServer&) = delete;
  EtcdServer& operator=(const EtcdServer&) = delete;

  const std::string& endpoint() const { return endpoint_; }

  // As a loss of power would.
  void kill() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

  // On the data it had; false if it ended instead of answering.
  bool start() {
    const std::string url = "http://" + endpoint_;
    const std::string data = directory_ / "data", log = directory_ / "log";
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    CHECK(pid_ >= 0);
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const int output = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
      if (::getppid() != parent || ::dup2(output, 1) < 0 || ::dup2(output, 2) < 0) ::_exit(126);
      const char* const peers = "http://127.0.0.1:0";  // of which it has none
      ::execlp("etcd", "etcd", "--name", "only", "--data-dir", data.c_str(), "--listen-client-urls", url.c_str(),
               "--advertise-client-urls", url.c_str(), "--listen-peer-urls", peers, "--initial-advertise-peer-urls",
               peers, "--initial-cluster", "only=http://127.0.0.1:0", static_cast<char*>(nullptr));
      ::_exit(127);
    }
    const auto store = open_etcd_store({.endpoints = {endpoint_}, .call_seconds = 60}).value();
    while (!store->get("started").ok()) {
      if (::waitpid(pid_, nullptr, WNOHANG) == pid_) {
        pid_ = -1;
        return false;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return true;
  }

 private:
  const TemporaryDirectory directory_;
  std::string endpoint_;
  pid_t pid_ = -1;
};

// The one all tests share that break nothing; each uses a prefix of its own.
inline EtcdServer& shared_etcd() {
  static EtcdServer server;
  return server;
}

// Answers each connection's first request with the same bytes, with "" not at all. It hangs up after the answer, or, if
// told to wait, after it has read another request.
class FakeServer {
 public:
  explicit FakeServer(std::string answer, bool waits = false) : answer_(std::move(answer)), waits_(waits) {
    CHECK(::listen(socket_.descriptor(), 16) == 0);
    threads_.emplace_back([this] { serve(); });
  }
  ~FakeServer() {
    stop_ = true;
    ::shutdown(socket_.descriptor(), SHUT_RDWR);  // wakes accept
    threads_.front().join();
    for (size_t i = 1; i < threads_.size(); ++i) {
      ::shutdown(connections_[i - 1], SHUT_RDWR);
      threads_[i].join();
      ::close(connections_[i - 1]);
    }
  }
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  static std::string http(std::string_view body, std::string_view code = "200 OK") {
    return fmt::format("HTTP/1.1 {}\r\nContent-Length: {}\r\n\r\n{}", code, body.size(), body);
  }
  std::string endpoint() const { return socket_.endpoint(); }
  int num_requests() const { return num_requests_; }

 private:
  void serve() {
    while (!stop_) {
      const int connection = ::accept4(socket_.descriptor(), nullptr, nullptr, SOCK_CLOEXEC);
      if (connection < 0) continue;
      connections_.push_back(connection);
      threads_.emplace_back([this, connection] { answer(connection); });
    }
  }

  void answer(int connection) {
    read_request(connection);
    for (size_t sent = 0; sent < answer_.size();) {
      const ssize_t count = ::send(connection, answer_.data() + sent, answer_.size() - sent, MSG_NOSIGNAL);
      if (count <= 0) break;
      sent += static_cast<size_t>(count);
    }
    if (waits_ || answer_.empty()) read_request(connection);
    ::shutdown(connection, SHUT_RDWR);
  }

  // A short one comes in one piece over loopback.
  void read_request(int connection) {
    char request[4096];
    if (::recv(connection, request, sizeof(request), 0) > 0) ++num_requests_;
  }

  const std::string answer_;
  const bool waits_;
  LoopbackSocket socket_;
  std::atomic<bool> stop_ = false;
  std::atomic<int> num_requests_ = 0;
  std::vector<int> connections_;
  std::deque<std::thread> threads_;  // the first accepts, and alone adds others
};

}  // namespace colossus
