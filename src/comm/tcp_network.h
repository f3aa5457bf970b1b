// The connections of one rank with all others of a run, over TCP: one with each, which its groups share. A group is a
// channel: groups are lanes that run at the same time from several threads, and none holds up another.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/key_value_store.h"

namespace colossus {

class TcpHub;

struct NetworkOptions {
  std::string name = "world";  // for messages
  int rank = 0;                // of this process
  int size = 1;
  double timeout_seconds = 30;  // to meet
  // To listen on; empty: the one that the host name resolves to.
  std::string interface = {};
};

class TcpNetwork {
 public:
  // Connects with all others, which do the same with the same store and key, which no other network of the store may
  // have used. The store is not used afterwards. Whoever can read the store can join: a connection must know the secret
  // that lies there. What is sent is not encrypted: for networks that only the run's machines can reach.
  static Result<std::unique_ptr<TcpNetwork>> join(const NetworkOptions& options, KeyValueStore& store,
                                                  const std::string& key);

  int rank() const { return rank_; }
  int size() const { return size_; }

  // This rank's end of a group. `members`: ranks of the network, in the group's order. All of them call it with the
  // same name and members, and no other group has both; nobody waits for anybody. The connections last as long as the
  // network or one of its ends.
  std::unique_ptr<Communicator> group(const std::string& name, const std::vector<int>& members,
                                      double timeout_seconds) const;

 private:
  TcpNetwork(int rank, int size, std::shared_ptr<TcpHub> hub) : rank_(rank), size_(size), hub_(std::move(hub)) {}

  const int rank_, size_;
  const std::shared_ptr<TcpHub> hub_;
};

// A network with one group, of all.
Result<std::unique_ptr<Communicator>> join_tcp_group(const GroupOptions& options, KeyValueStore& store,
                                                     const std::string& key, const std::string& interface = "");

}  // namespace colossus
