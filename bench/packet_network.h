// A network of leaves and spines, simulated packet by packet with ns-3 (Riley & Henderson 2010). C++17, as ns-3's
// headers.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace colossus {

inline constexpr double kPacketLinkBytesPerSecond = 12.5e9;
inline constexpr uint32_t kPacketBytes = 4096;

// Each leaf has one link to each spine.
struct Fabric {
  int64_t hosts_per_leaf = 8, leaves = 4, spines = 8;
  int64_t hosts() const { return hosts_per_leaf * leaves; }
};

// One at a time in a process. Switches forward whole packets and lose none.
class PacketNetwork {
 public:
  PacketNetwork(const Fabric& fabric, uint64_t seed);
  ~PacketNetwork();
  PacketNetwork(const PacketNetwork&) = delete;
  PacketNetwork& operator=(const PacketNetwork&) = delete;

  // From now on; `when_received` when all of it is there. 0 queue pairs: each packet leaves through the uplink with the
  // shortest queue; otherwise the message is cut into so many parts, each of which takes the same path between the two
  // whenever it is sent, drawn once.
  void send(int64_t from, int64_t to, double bytes, int64_t queue_pairs, const std::function<void()>& when_received);
  double now() const;  // seconds
  void run();          // until nothing is under way

 private:
  class Packets;
  std::unique_ptr<Packets> packets_;
};

}  // namespace colossus
