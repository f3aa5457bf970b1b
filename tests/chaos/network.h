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
  // These reach each other, and nobody else.
  void cut_off_together(const std::vector<int>& hosts);
  void heal(int host);
  // Of the packets of a host, in both directions or where the system can do no more on their way out. What was done;
  // empty: nothing, for this system lacks what it takes.
  std::string lose_packets(int host);   // 5 %
  std::string delay_packets(int host);  // by tens of milliseconds
  void carry_all_packets(int host);

  void kill_etcd();
  void start_etcd();

 private:
  const int num_hosts_;
  const std::string directory_;
  std::optional<ChildProcess> etcd_;
};

}  // namespace colossus::chaos
