// Machines that are network namespaces of this one, joined by a bridge, with an etcd beside them. Needs root.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/child_process.h"
#include "cluster.h"

namespace colossus::chaos {

class Network {
 public:
  // Why this machine cannot have one; empty: it can.
  static std::string why_not();

  // `directory`: for etcd. Ends the process (CHECK) when something does not work that why_not() found in order.
  Network(int num_hosts, std::string directory);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  std::vector<Host> hosts() const;
  std::string store() const;  // address; a run's prefix follows

  void cut(int host);
  void heal(int host);
  // Of the packets of a host 5 % are lost, and the others late by 10 ms where this system can do that. What was done;
  // empty: nothing, for it has neither netem nor iptables.
  std::string lose_packets(int host);
  void lose_no_packets(int host);

  void kill_etcd();
  void start_etcd();

 private:
  const int num_hosts_;
  const std::string directory_;
  std::optional<ChildProcess> etcd_;
};

}  // namespace colossus::chaos
