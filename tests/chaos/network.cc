#include "network.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "base/check.h"
#include "base/clock.h"
#include "comm/key_value_store.h"

namespace colossus::chaos {
namespace {

// Of one such network at a time on a machine.
constexpr const char* kBridge = "colossus-br";
constexpr const char* kOtherBridge = "colossus-br2";  // leads nowhere
constexpr const char* kNet = "10.213.77";

std::string name_of(int host) { return fmt::format("colossus-h{}", host); }
std::string cable_of(int host) { return fmt::format("colossus-v{}", host); }

bool shell(const std::string& command) { return std::system(("{ " + command + "; } >/dev/null 2>&1").c_str()) == 0; }
void must(const std::string& command) { CHECK(shell(command), command.c_str()); }

void remove_all(int num_hosts) {
  for (int host = 0; host < num_hosts; ++host) {
    shell("ip link del " + cable_of(host));
    shell("ip netns del " + name_of(host));
  }
  for (const char* bridge : {kBridge, kOtherBridge}) shell(fmt::format("ip link del {}", bridge));
}

}  // namespace

std::string Network::why_not() {
  if (::geteuid() != 0) return "network namespaces need root";
  for (const char* tool : {"ip", "tc", "etcd", "unshare", "hostname"})
    if (!shell(std::string("command -v ") + tool)) return std::string(tool) + " is not installed";
  const bool allowed = shell(
      "ip netns add colossus-try && ip link add colossus-t0 type veth peer name colossus-t1 && "
      "ip link add colossus-t2 type bridge");
  shell("ip link del colossus-t2; ip link del colossus-t0; ip netns del colossus-try");
  return allowed ? "" : "this machine does not allow to make network namespaces, veth and bridges";
}

Network::Network(int num_hosts, std::string directory) : num_hosts_(num_hosts), directory_(std::move(directory)) {
  remove_all(num_hosts_);  // what a killed one has left
  must(fmt::format("ip link add {0} type bridge && ip addr add {1}.1/24 dev {0} && ip link set {0} up", kBridge, kNet));
  must(fmt::format("ip link add {0} type bridge && ip link set {0} up", kOtherBridge));
  for (int host = 0; host < num_hosts_; ++host) {
    const std::string name = name_of(host), cable = cable_of(host);
    must(
        fmt::format("ip netns add {0} && ip link add {1} type veth peer name eth0 netns {0} && "
                    "ip link set {1} master {2} up && ip -n {0} link set lo up && "
                    "ip -n {0} addr add {3}.{4}/24 dev eth0 && ip -n {0} link set eth0 up",
                    name, cable, kBridge, kNet, 10 + host));
  }
  start_etcd();
}

Network::~Network() {
  kill_etcd();
  remove_all(num_hosts_);
}

std::vector<Host> Network::hosts() const {
  std::vector<Host> hosts;
  for (int host = 0; host < num_hosts_; ++host)
    hosts.push_back({.name = name_of(host),
                     .prefix = {"ip", "netns", "exec", name_of(host), "unshare", "--uts", "/bin/sh", "-c",
                                "hostname \"$0\" && exec \"$@\"", name_of(host)}});
  return hosts;
}

std::string Network::store() const { return fmt::format("etcd://{}.1:2379", kNet); }

void Network::cut(int host) { must("ip link set " + cable_of(host) + " down"); }
void Network::cut_off_together(const std::vector<int>& hosts) {
  for (const int host : hosts) must(fmt::format("ip link set {} master {}", cable_of(host), kOtherBridge));
}
void Network::heal(int host) { must(fmt::format("ip link set {} master {} up", cable_of(host), kBridge)); }

std::string Network::delay_packets(int host) {
  const std::string replace = fmt::format("ip netns exec {} tc qdisc replace dev eth0 root ", name_of(host));
  if (shell(replace + "netem delay 50ms 20ms")) return "netem: 50 ms";
  // Late by having to queue.
  if (shell(replace + "tbf rate 20mbit burst 32kbit latency 400ms")) return "tbf: 20 Mbit/s, up to 400 ms late";
  return "";
}

std::string Network::lose_packets(int host) {
  const std::string within = "ip netns exec " + name_of(host);
  if (shell(within + " tc qdisc replace dev eth0 root netem loss 5%")) return "netem: 5 % lost";
  const std::string rule = "-m statistic --mode random --probability 0.05 -j DROP";
  if (shell(fmt::format("{0} iptables -A OUTPUT {1} && {0} iptables -A INPUT {1}", within, rule)))
    return "iptables: 5 % lost each way";
  return "";
}

void Network::carry_all_packets(int host) {
  const std::string within = "ip netns exec " + name_of(host);
  shell(within + " tc qdisc del dev eth0 root");
  shell(within + " iptables -F");
}

void Network::kill_etcd() {
  if (!etcd_) return;
  etcd_->send(SIGKILL);
  etcd_->wait();
  etcd_.reset();
}

void Network::start_etcd() {
  const std::string client = fmt::format("http://{}.1:2379", kNet), peer = fmt::format("http://{}.1:2380", kNet);
  auto process =
      ChildProcess::start({.arguments = {"/bin/sh", "-c", "exec \"$@\" >>\"$0\" 2>&1", directory_ + "/etcd.log", "etcd",
                                         "--name", "only", "--data-dir", directory_ + "/etcd", "--listen-client-urls",
                                         client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
                                         "--initial-advertise-peer-urls", peer, "--initial-cluster", "only=" + peer},
                           .environment = {},
                           .own_group = true,
                           .signal_when_parent_ends = SIGKILL});
  CHECK(process.ok(), process.status().message().c_str());
  etcd_ = std::move(*process);
  const auto store = open_store(this->store()).value();
  const double begun = monotonic_seconds();
  while (!store->get("started").ok()) {
    CHECK(monotonic_seconds() - begun < 60, "etcd does not start; see etcd.log");
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace colossus::chaos
