#include "comm/tcp_connection.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/check.h"

namespace colossus {
namespace {

constexpr uint16_t kMagic = 0xc01f;
// Of messages up to this one copy costs less than a turn of questions and answers.
constexpr size_t kAheadBytes = size_t{16} << 10;
// What a frame keeps other channels waiting for: no more than what sockets hold already.
constexpr size_t kFrameBytes = size_t{2} << 20;
// Of one connection before the others have their turn.
constexpr size_t kTurnBytes = size_t{8} << 20;
// Read at once where a long message may begin: heads, and little that has to be copied to its place.
constexpr size_t kHeadsBytes = size_t{2} << 10;
constexpr size_t kMaxReasonBytes = 500;
// A run has a channel for each of its groups; one that speaks on more takes memory for nothing.
constexpr size_t kMaxChannels = 1 << 16;

std::string mismatch_text(const char* verb, uint8_t kind, uint64_t bytes, uint8_t own_kind, uint64_t own_bytes) {
  return fmt::format("{} {} bytes{}, not {}", verb, bytes, kind == own_kind ? "" : " of another operation", own_bytes);
}

}  // namespace

TcpConnection::TcpConnection(Descriptor socket, int poll, uint32_t tag)
    : socket_(std::move(socket)), poll_(poll), tag_(tag) {
  epoll_event event{.events = EPOLLIN, .data = {.u32 = tag_}};
  CHECK(::epoll_ctl(poll_, EPOLL_CTL_ADD, socket_.get(), &event) == 0, "a socket can be waited for");
}

TcpConnection::~TcpConnection() {
  if (!socket_.valid()) return;
  write();
  ::shutdown(socket_.get(), SHUT_WR);
  // With something unread the system would take back what is still on its way.
  std::array<std::byte, 4096> unread;
  for (int i = 0; i < 256 && ::recv(socket_.get(), unread.data(), unread.size(), MSG_DONTWAIT) > 0; ++i) {
  }
}

TcpPort& TcpConnection::port(uint64_t channel) {
  auto& port = ports_[channel];
  if (!port) {
    port = std::make_unique<TcpPort>();
    port->channel = channel;
  }
  return *port;
}

TcpConnection::Head TcpConnection::head_of(FrameType type, const TcpPort& port, uint8_t kind, uint64_t message_bytes,
                                           size_t frame_bytes) const {
  return {.channel = port.channel,
          .message_bytes = message_bytes,
          .frame_bytes = static_cast<uint32_t>(frame_bytes),
          .type = type,
          .kind = kind,
          .magic = kMagic};
}

void TcpConnection::queue(const Head& head, std::span<const std::byte> bytes) {
  const auto head_bytes = std::as_bytes(std::span(&head, 1));
  queued_.insert(queued_.end(), head_bytes.begin(), head_bytes.end());
  queued_.insert(queued_.end(), bytes.begin(), bytes.end());
  num_queued_ += head_bytes.size() + bytes.size();
}

void TcpConnection::receive(TcpPort& port, uint8_t kind, std::span<std::byte> bytes) {
  port.receiving = TcpPort::Message::kOpen;
  port.receive_kind = kind;
  port.receive_bytes = bytes.size();
  port.to_receive = bytes;
  queue(head_of(FrameType::kReady, port, kind, bytes.size(), 0));
  const bool still_coming = payload_port_ == &port && head_.type == FrameType::kBytes;
  if (port.ahead && !still_coming) take_ahead(port);
}

void TcpConnection::send(TcpPort& port, uint8_t kind, std::span<const std::byte> bytes) {
  port.sending = TcpPort::Message::kOpen;
  port.send_kind = kind;
  port.send_bytes = bytes.size();
  port.to_send = bytes;
  const bool mismatch = port.asked && (port.asked_kind != kind || port.asked_bytes != bytes.size());
  if (bytes.size() <= kAheadBytes && !mismatch) {
    queue(head_of(FrameType::kBytes, port, kind, bytes.size(), bytes.size()), bytes);
    port.to_send = {};
  }
  if (port.asked) answer(port);
}

// To what the peer asked for, with what is to be sent to it.
void TcpConnection::answer(TcpPort& port) {
  port.asked = false;
  port.change();
  if (port.asked_kind != port.send_kind || port.asked_bytes != port.send_bytes) {
    port.mismatch = mismatch_text("expects", port.asked_kind, port.asked_bytes, port.send_kind, port.send_bytes);
  } else if (port.to_send.empty()) {
    port.sending = TcpPort::Message::kDone;
  } else {
    long_messages_.push_back(&port);
  }
}

void TcpConnection::take_ahead(TcpPort& port) {
  port.ahead = false;
  if (port.ahead_kind != port.receive_kind || port.ahead_bytes.size() != port.receive_bytes) {
    port.mismatch =
        mismatch_text("sends", port.ahead_kind, port.ahead_bytes.size(), port.receive_kind, port.receive_bytes);
  } else {
    std::ranges::copy(port.ahead_bytes, port.to_receive.begin());
    port.receiving = TcpPort::Message::kDone;
  }
  port.change();
}

void TcpConnection::withdraw(TcpPort& port) {
  port.waiter = nullptr;
  port.sending = port.receiving = TcpPort::Message::kNone;
  port.to_receive = {};
  std::erase(long_messages_, &port);
  if (frame_port_ != &port) return;
  // The peer counts on the rest of a frame.
  frame_own_.insert(frame_own_.end(), frame_rest_.begin(), frame_rest_.end());
  frame_rest_ = {};
  frame_port_ = nullptr;
}

void TcpConnection::leave(TcpPort& port, const std::string& reason) {
  if (port.closed) return;
  port.closed = true;
  port.ahead_bytes.clear();
  const auto bytes = std::as_bytes(std::span(reason).first(std::min(reason.size(), kMaxReasonBytes)));
  queue(head_of(FrameType::kLeave, port, 0, bytes.size(), bytes.size()), bytes);
}

void TcpConnection::start_frame() {
  frame_port_ = long_messages_.front();
  long_messages_.pop_front();
  frame_rest_ = frame_port_->to_send.first(std::min(frame_port_->to_send.size(), kFrameBytes));
  const Head head =
      head_of(FrameType::kBytes, *frame_port_, frame_port_->send_kind, frame_port_->send_bytes, frame_rest_.size());
  const auto bytes = std::as_bytes(std::span(&head, 1));
  frame_own_.assign(bytes.begin(), bytes.end());
  frame_own_begin_ = 0;
  frame_port_->to_send = frame_port_->to_send.subspan(frame_rest_.size());
}

void TcpConnection::finish_frame() {
  frame_own_.clear();
  frame_own_begin_ = 0;
  frame_begun_ = false;
  if (frame_port_ == nullptr) return;
  if (frame_port_->to_send.empty()) {
    frame_port_->sending = TcpPort::Message::kDone;
    frame_port_->change();
  } else {
    long_messages_.push_back(frame_port_);
  }
  frame_port_ = nullptr;
}

void TcpConnection::write() {
  size_t turn = 0;
  bool full = false;
  while (!lost_ && !write_failed_ && !full && turn < kTurnBytes) {
    if (frame_own_.empty() && !long_messages_.empty()) start_frame();
    const auto frame_own = std::span(frame_own_).subspan(frame_own_begin_);
    const auto queued = std::span(queued_).subspan(queued_begin_);
    std::array<iovec, 3> parts;
    size_t num_parts = 0, size = 0;
    const auto add = [&](std::span<const std::byte> bytes) {
      if (!bytes.empty()) parts[num_parts++] = {const_cast<std::byte*>(bytes.data()), bytes.size()};
      size += bytes.size();
    };
    // Short frames first, but not into the middle of another.
    if (!frame_begun_) add(queued);
    add(frame_own);
    add(frame_rest_);
    if (frame_begun_) add(queued);
    if (size == 0) break;
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = num_parts;
    const ssize_t written = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno != EAGAIN && errno != EWOULDBLOCK) write_failed_ = true;
    if (written > 0) wrote(static_cast<size_t>(written));
    full = written < static_cast<ssize_t>(size);
    turn += size;
  }
  want_to_write(!lost_ && !write_failed_ &&
                (queued_begin_ < queued_.size() || !frame_own_.empty() || !long_messages_.empty()));
}

void TcpConnection::wrote(size_t bytes) {
  const auto write_queued = [&] {
    const size_t n = std::min(bytes, queued_.size() - queued_begin_);
    queued_begin_ += n;
    num_written_ += n;
    bytes -= n;
    if (queued_begin_ < queued_.size()) return;
    queued_.clear();
    queued_begin_ = 0;
    // Calls wait for what they said to be written.
    if (n > 0)
      for (const auto& [channel, port] : ports_) port->change();
  };
  if (!frame_begun_) write_queued();
  if (bytes > 0 && !frame_own_.empty()) {
    frame_begun_ = true;
    const size_t own = std::min(bytes, frame_own_.size() - frame_own_begin_);
    frame_own_begin_ += own;
    const size_t rest = std::min(bytes - own, frame_rest_.size());
    frame_rest_ = frame_rest_.subspan(rest);
    bytes -= own + rest;
    if (frame_own_begin_ == frame_own_.size() && frame_rest_.empty()) finish_frame();
  }
  write_queued();
}

void TcpConnection::want_to_write(bool wanted) {
  if (wanted == wants_to_write_ || lost_) return;
  wants_to_write_ = wanted;
  epoll_event event{.events = EPOLLIN | (wanted ? EPOLLOUT : 0u), .data = {.u32 = tag_}};
  ::epoll_ctl(poll_, EPOLL_CTL_MOD, socket_.get(), &event);
}

void TcpConnection::read(std::span<std::byte> scratch) {
  for (size_t turn = 0; turn < kTurnBytes && !lost_;) {
    const std::span<std::byte> place = place_of_payload();
    const bool direct = !place.empty();
    const auto behind = place.size() > kAheadBytes ? scratch.first(sizeof(Head))
                        : expects_long_message()   ? scratch.first(kHeadsBytes)
                                                   : scratch;
    std::array<iovec, 2> parts = {iovec{place.data(), place.size()}, iovec{behind.data(), behind.size()}};
    msghdr message{};
    message.msg_iov = parts.data() + (direct ? 0 : 1);
    message.msg_iovlen = direct ? 2 : 1;
    const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (got <= 0) return lose(got == 0 ? "it closed the connection" : system_text(errno));
    const auto size = static_cast<size_t>(got);
    const size_t in_place = std::min(size, place.size());
    if (in_place > 0) {
      payload_port_->to_receive = payload_port_->to_receive.subspan(in_place);
      payload_left_ -= in_place;
      if (payload_left_ == 0) finish_payload();
    }
    consume(scratch.first(size - in_place));
    if (size < place.size() + behind.size()) return;
    turn += size;
  }
}

bool TcpConnection::expects_long_message() const {
  return std::ranges::any_of(ports_, [](const auto& entry) {
    return entry.second->receiving == TcpPort::Message::kOpen && entry.second->to_receive.size() > kAheadBytes;
  });
}

// Where the next bytes can go without a copy; else empty.
std::span<std::byte> TcpConnection::place_of_payload() const {
  if (payload_left_ == 0 || head_.type != FrameType::kBytes || payload_port_->ahead ||
      payload_port_->receiving != TcpPort::Message::kOpen || payload_port_->to_receive.size() < payload_left_)
    return {};
  return payload_port_->to_receive.first(payload_left_);
}

void TcpConnection::consume(std::span<const std::byte> bytes) {
  while (!bytes.empty() && !lost_) {
    if (payload_left_ > 0) {
      const size_t n = std::min(bytes.size(), payload_left_);
      take_payload(bytes.first(n));
      bytes = bytes.subspan(n);
      payload_left_ -= n;
      if (payload_left_ == 0) finish_payload();
      continue;
    }
    const size_t n = std::min(bytes.size(), sizeof(head_) - head_bytes_);
    std::memcpy(reinterpret_cast<std::byte*>(&head_) + head_bytes_, bytes.data(), n);
    bytes = bytes.subspan(n);
    head_bytes_ += n;
    if (head_bytes_ < sizeof(head_)) return;
    head_bytes_ = 0;
    start_payload();
  }
}

// A frame's head has come.
void TcpConnection::start_payload() {
  // Each kind of frame says how long it may be, before memory is taken for it.
  const bool possible = head_.type == FrameType::kReady   ? head_.frame_bytes == 0
                        : head_.type == FrameType::kBytes ? head_.frame_bytes <= head_.message_bytes
                        : head_.type == FrameType::kLeave ? head_.frame_bytes <= kMaxReasonBytes
                                                          : false;
  if (head_.magic != kMagic || !possible) return lose("it sends what is no frame; it may be another build");
  if (ports_.size() >= kMaxChannels && !ports_.contains(head_.channel))
    return lose(fmt::format("it speaks on more than {} channels; it may be another build", kMaxChannels));
  TcpPort& port = this->port(head_.channel);
  payload_port_ = &port;
  payload_left_ = head_.frame_bytes;
  switch (head_.type) {
    case FrameType::kReady:
      port.asked = true;
      port.asked_kind = head_.kind;
      port.asked_bytes = head_.message_bytes;
      if (port.sending == TcpPort::Message::kOpen) answer(port);
      break;
    case FrameType::kBytes:
      if (port.closed || port.receiving == TcpPort::Message::kOpen) {
        if (port.closed || (port.receive_kind == head_.kind && port.receive_bytes == head_.message_bytes)) break;
        port.mismatch = mismatch_text("sends", head_.kind, head_.message_bytes, port.receive_kind, port.receive_bytes);
        port.change();
        break;
      }
      if (head_.message_bytes > kAheadBytes) break;  // what was asked for by a call that has failed since
      port.ahead = true;
      port.ahead_kind = head_.kind;
      port.ahead_bytes.clear();
      break;
    case FrameType::kLeave: reason_.clear(); break;
  }
  if (payload_left_ == 0) finish_payload();
}

void TcpConnection::take_payload(std::span<const std::byte> bytes) {
  TcpPort& port = *payload_port_;
  if (head_.type == FrameType::kLeave) {
    reason_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  } else if (head_.type == FrameType::kBytes && !port.closed) {
    if (port.ahead) {
      port.ahead_bytes.insert(port.ahead_bytes.end(), bytes.begin(), bytes.end());
    } else if (port.receiving == TcpPort::Message::kOpen && bytes.size() <= port.to_receive.size()) {
      std::ranges::copy(bytes, port.to_receive.begin());
      port.to_receive = port.to_receive.subspan(bytes.size());
    }
  }
}

void TcpConnection::finish_payload() {
  TcpPort& port = *payload_port_;
  payload_port_ = nullptr;
  if (head_.type == FrameType::kLeave) {
    port.left = reason_;
    port.change();
  } else if (head_.type == FrameType::kBytes && !port.closed && port.receiving == TcpPort::Message::kOpen) {
    if (port.ahead) {
      take_ahead(port);  // asked for while it came
    } else if (port.to_receive.empty() && port.mismatch.empty()) {
      port.receiving = TcpPort::Message::kDone;
      port.change();
    }
  }
}

void TcpConnection::lose(const std::string& why) {
  lost_ = why;
  socket_ = Descriptor();  // which also ends that it is waited for
  for (const auto& [channel, port] : ports_) port->change();
}

}  // namespace colossus
