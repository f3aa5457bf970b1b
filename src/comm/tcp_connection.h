// One connection with another process, and the channels that share it. Not for use outside of comm/tcp_*.
//
// What goes over it are frames: a head, and bytes. A receiver asks for a message (kReady); a sender answers with its
// bytes (kBytes), long ones in several frames, between which those of other channels go. Nothing lies in the receiver's
// way that it has not asked for: channels cannot hold each other up. Short messages are sent before they are asked for,
// and kept aside by the receiver until they are; there is at most one on each channel, because the sender's call waits
// until it was asked for. So of two ranks that exchange short messages, the later one finds everything there.
//
// Which is why there is no thread here: whoever waits, reads and writes for all channels (tcp_hub.h).
// All calls are made with the hub's mutex held.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "comm/tcp_socket.h"

namespace colossus {

// A thread in a call, to be woken when something changed for it.
struct TcpWaiter {
  std::condition_variable condition;
  bool changed = false;
};

// One channel's end of one connection: at most one message each way.
struct TcpPort {
  enum class Message { kNone, kOpen, kDone };

  uint64_t channel = 0;
  bool opened = false;              // here
  TcpWaiter* waiter = nullptr;      // of the call in progress
  bool closed = false;              // here: what still comes is dropped
  std::optional<std::string> left;  // why the peer is on this channel no longer
  std::string mismatch;             // what the peer sends or expects instead

  Message sending = Message::kNone;
  uint8_t send_kind = 0;
  uint64_t send_bytes = 0;
  std::span<const std::byte> to_send;  // empty for one that went ahead
  bool asked = false;                  // by the peer, for a message of:
  uint8_t asked_kind = 0;
  uint64_t asked_bytes = 0;

  Message receiving = Message::kNone;
  uint8_t receive_kind = 0;
  uint64_t receive_bytes = 0;
  std::span<std::byte> to_receive;
  bool ahead = false;  // a message came that was not asked for
  uint8_t ahead_kind = 0;
  std::vector<std::byte> ahead_bytes;

  void change() const {
    if (waiter != nullptr) waiter->changed = true;
  }
};

class TcpConnection {
 public:
  // `poll`: the epoll descriptor that tells when to call read() and write(), by `tag`. It outlives the connection.
  TcpConnection(Descriptor socket, int poll, uint32_t tag);
  ~TcpConnection();  // what was written still arrives
  TcpConnection(const TcpConnection&) = delete;
  TcpConnection& operator=(const TcpConnection&) = delete;

  // It stays where it is. The peer may have spoken on a channel before this process knows of it.
  TcpPort& port(uint64_t channel);

  // The message's memory is the caller's until its state is kDone or withdraw() was called. Nothing is written before
  // write().
  void receive(TcpPort& port, uint8_t kind, std::span<std::byte> bytes);
  void send(TcpPort& port, uint8_t kind, std::span<const std::byte> bytes);
  // Forgets the messages of a call.
  void withdraw(TcpPort& port);
  // This process is on the channel no longer; once.
  void leave(TcpPort& port, const std::string& reason);

  // As much as the socket takes, or has.
  void write();
  void read(std::span<std::byte> scratch);

  // What was said by send() and receive() up to now is written once num_written() has come to num_queued().
  uint64_t num_queued() const { return num_queued_; }
  uint64_t num_written() const { return num_written_; }
  const std::optional<std::string>& lost() const { return lost_; }

 private:
  enum class FrameType : uint8_t { kReady = 1, kBytes, kLeave };
  struct Head {
    uint64_t channel;
    uint64_t message_bytes;
    uint32_t frame_bytes;  // that follow
    FrameType type;
    uint8_t kind;
    uint16_t magic;
  };
  static_assert(sizeof(Head) == 24);

  Head head_of(FrameType type, const TcpPort& port, uint8_t kind, uint64_t message_bytes, size_t frame_bytes) const;
  void queue(const Head& head, std::span<const std::byte> bytes = {});
  void answer(TcpPort& port);
  void take_ahead(TcpPort& port);
  void start_frame();
  void finish_frame();
  void wrote(size_t bytes);
  void want_to_write(bool wanted);

  bool expects_long_message() const;
  std::span<std::byte> place_of_payload() const;
  void consume(std::span<const std::byte> bytes);
  void start_payload();
  void take_payload(std::span<const std::byte> bytes);
  void finish_payload();
  void lose(const std::string& why);

  Descriptor socket_;
  const int poll_;
  const uint32_t tag_;
  std::optional<std::string> lost_;
  bool write_failed_ = false;  // why, the end of what can be read will tell
  bool wants_to_write_ = false;
  std::unordered_map<uint64_t, std::unique_ptr<TcpPort>> ports_;

  // Outgoing: short frames, and between them frames of the long messages, in turn.
  std::vector<std::byte> queued_;
  size_t queued_begin_ = 0;  // before it: written
  uint64_t num_queued_ = 0, num_written_ = 0;
  std::deque<TcpPort*> long_messages_;
  std::vector<std::byte> frame_own_;       // the frame's head, or all that is left of a frame that was withdrawn
  size_t frame_own_begin_ = 0;             // before it: written
  std::span<const std::byte> frame_rest_;  // after frame_own_
  TcpPort* frame_port_ = nullptr;
  bool frame_begun_ = false;

  // Incoming.
  Head head_{};
  size_t head_bytes_ = 0;  // that have come
  size_t payload_left_ = 0;
  TcpPort* payload_port_ = nullptr;
  std::string reason_;
};

}  // namespace colossus
