#include "packet_network.h"

#include <ns3/core-module.h>
#include <ns3/network-module.h>
#include <ns3/point-to-point-module.h>

#include <algorithm>
#include <array>
#include <map>
#include <random>
#include <vector>

namespace colossus {
namespace {

constexpr int64_t kWindow = 64;  // packets under way: several times what the empty network holds
constexpr int64_t kPacketsAnAcknowledgement = 4;
constexpr double kLinkDelay = 0.5e-6;
constexpr double kAcknowledgementDelay = 4 * kLinkDelay;  // in a class of its own, that waits for nothing
constexpr uint16_t kProtocol = 0x0800;                    // one that ns-3's point-to-point links know

// Which message a packet is of, and where it goes.
class PacketLabel : public ns3::Tag {
 public:
  uint32_t part = 0, spine = 0;

  static ns3::TypeId GetTypeId() {
    static const ns3::TypeId id =
        ns3::TypeId("colossus::PacketLabel").SetParent<ns3::Tag>().AddConstructor<PacketLabel>();
    return id;
  }
  ns3::TypeId GetInstanceTypeId() const override { return GetTypeId(); }
  uint32_t GetSerializedSize() const override { return 8; }
  void Serialize(ns3::TagBuffer i) const override {
    for (const uint32_t value : {part, spine}) i.WriteU32(value);
  }
  void Deserialize(ns3::TagBuffer i) override {
    for (uint32_t* value : {&part, &spine}) *value = i.ReadU32();
  }
  void Print(std::ostream& os) const override { os << part; }
};

// A queue pair's packets from one host to another.
struct Part {
  int64_t from = 0, to = 0, num_packets = 0;
  int64_t spine = -1;  // that all take; -1: each chooses
  int64_t num_sent = 0, num_acknowledged = 0, num_received = 0;
  std::function<void()> when_received;
};

}  // namespace

class PacketNetwork::Packets {
 public:
  Packets(const Fabric& fabric, uint64_t seed) : fabric_(fabric), random_(seed) {
    hosts_.Create(static_cast<uint32_t>(fabric.hosts()));
    leaves_.Create(static_cast<uint32_t>(fabric.leaves));
    spines_.Create(static_cast<uint32_t>(fabric.spines));
    for (int64_t host = 0; host < fabric.hosts(); ++host) {
      const auto [up, down] = connect(hosts_.Get(host), leaves_.Get(host / fabric.hosts_per_leaf));
      host_up_.push_back(up);
      host_down_.push_back(down);
    }
    for (int64_t leaf = 0; leaf < fabric.leaves; ++leaf)
      for (int64_t spine = 0; spine < fabric.spines; ++spine) {
        const auto [up, down] = connect(leaves_.Get(leaf), spines_.Get(spine));
        leaf_up_.push_back(up);
        leaf_down_.push_back(down);
      }
  }
  ~Packets() { ns3::Simulator::Destroy(); }

  void send(int64_t from, int64_t to, double bytes, int64_t queue_pairs, const std::function<void()>& when_received) {
    const auto packets = static_cast<int64_t>(bytes / kPacketBytes + 0.5);
    const auto missing = std::make_shared<int64_t>(0);
    const bool adaptive = queue_pairs == 0;
    const int64_t parts = adaptive ? 1 : std::min(queue_pairs, packets);
    for (int64_t i = 0; i < parts; ++i) {
      ++*missing;
      Part part;
      part.from = from;
      part.to = to;
      part.num_packets = packets * (i + 1) / parts - packets * i / parts;
      part.spine = adaptive ? -1 : spine_of(from, to, i);
      part.when_received = [=] {
        if (--*missing == 0) when_received();
      };
      parts_.push_back(part);
      fill_window(static_cast<uint32_t>(parts_.size() - 1));
    }
  }

 private:
  using Device = ns3::Ptr<ns3::PointToPointNetDevice>;

  std::pair<Device, Device> connect(ns3::Ptr<ns3::Node> lower, ns3::Ptr<ns3::Node> upper) {
    ns3::PointToPointHelper helper;
    helper.SetDeviceAttribute("DataRate",
                              ns3::DataRateValue(ns3::DataRate(static_cast<uint64_t>(kPacketLinkBytesPerSecond * 8))));
    helper.SetDeviceAttribute("Mtu", ns3::UintegerValue(kPacketBytes));
    helper.SetChannelAttribute("Delay", ns3::TimeValue(ns3::Seconds(kLinkDelay)));
    helper.SetQueue("ns3::DropTailQueue<Packet>", "MaxSize", ns3::StringValue("10000000p"));
    const ns3::NetDeviceContainer both = helper.Install(lower, upper);
    const auto up = ns3::DynamicCast<ns3::PointToPointNetDevice>(both.Get(0));
    const auto down = ns3::DynamicCast<ns3::PointToPointNetDevice>(both.Get(1));
    for (const Device& device : {up, down})
      device->SetReceiveCallback(
          [this, device](ns3::Ptr<ns3::NetDevice>, ns3::Ptr<const ns3::Packet> packet, uint16_t, const ns3::Address&) {
            arrive(device->GetNode()->GetId(), packet->Copy());
            return true;
          });
    return {up, down};
  }
  static void put(const Device& device, const ns3::Ptr<ns3::Packet>& packet) {
    NS_ABORT_MSG_UNLESS(device->Send(packet, device->GetBroadcast(), kProtocol), "a packet was lost");
  }

  void arrive(uint32_t node, const ns3::Ptr<ns3::Packet>& packet) {
    PacketLabel label;
    packet->PeekPacketTag(label);
    const Part& part = parts_[label.part];
    const int64_t leaf_of_it = part.to / fabric_.hosts_per_leaf;
    if (node < fabric_.hosts()) {
      receive(label.part);
    } else if (const int64_t leaf = node - fabric_.hosts(); leaf == leaf_of_it) {
      put(host_down_[static_cast<size_t>(part.to)], packet);
    } else if (leaf < fabric_.leaves) {
      if (part.spine < 0) {
        label.spine = static_cast<uint32_t>(shortest_queue(leaf));
        packet->ReplacePacketTag(label);
      }
      put(leaf_up_[static_cast<size_t>(leaf * fabric_.spines + label.spine)], packet);
    } else {
      put(leaf_down_[static_cast<size_t>(leaf_of_it * fabric_.spines + label.spine)], packet);
    }
  }

  // That queue pair's, from its first message on.
  int64_t spine_of(int64_t from, int64_t to, int64_t queue_pair) {
    const auto drawn = static_cast<int64_t>(random_() % static_cast<uint64_t>(fabric_.spines));
    return spines_of_pairs_.try_emplace({from, to, queue_pair}, drawn).first->second;
  }

  int64_t shortest_queue(int64_t leaf) {
    const auto first = static_cast<int64_t>(random_() % static_cast<uint64_t>(fabric_.spines));
    int64_t best = -1;
    uint32_t fewest = 0;
    for (int64_t i = 0; i < fabric_.spines; ++i) {
      const int64_t spine = (first + i) % fabric_.spines;
      const uint32_t bytes = leaf_up_[static_cast<size_t>(leaf * fabric_.spines + spine)]->GetQueue()->GetNBytes();
      if (best < 0 || bytes < fewest) best = spine, fewest = bytes;
    }
    return best;
  }

  void fill_window(uint32_t index) {
    Part& part = parts_[index];
    for (; part.num_sent < part.num_packets && part.num_sent < part.num_acknowledged + kWindow; ++part.num_sent) {
      const auto packet = ns3::Create<ns3::Packet>(kPacketBytes - 2);  // and the link's own header
      PacketLabel label;
      label.part = index;
      label.spine = static_cast<uint32_t>(std::max<int64_t>(part.spine, 0));
      packet->AddPacketTag(label);
      put(host_up_[static_cast<size_t>(part.from)], packet);
    }
  }

  void receive(uint32_t index) {
    Part& part = parts_[index];
    const int64_t received = ++part.num_received;
    const bool last = received == part.num_packets;
    if (last || received % kPacketsAnAcknowledgement == 0)
      ns3::Simulator::Schedule(ns3::Seconds(kAcknowledgementDelay), [this, index, received] {
        parts_[index].num_acknowledged = received;
        fill_window(index);
      });
    // A copy: it may send, and so move the parts.
    if (last) std::function<void()>(part.when_received)();
  }

  const Fabric fabric_;
  std::mt19937_64 random_;
  ns3::NodeContainer hosts_, leaves_, spines_;
  std::vector<Device> host_up_, host_down_, leaf_up_, leaf_down_;  // a leaf's to each spine in a row
  std::vector<Part> parts_;
  std::map<std::array<int64_t, 3>, int64_t> spines_of_pairs_;
};

PacketNetwork::PacketNetwork(const Fabric& fabric, uint64_t seed) : packets_(new Packets(fabric, seed)) {}
PacketNetwork::~PacketNetwork() = default;
void PacketNetwork::send(int64_t from, int64_t to, double bytes, int64_t queue_pairs,
                         const std::function<void()>& when_received) {
  packets_->send(from, to, bytes, queue_pairs, when_received);
}
double PacketNetwork::now() const { return ns3::Simulator::Now().GetSeconds(); }
void PacketNetwork::run() { ns3::Simulator::Run(); }

}  // namespace colossus
