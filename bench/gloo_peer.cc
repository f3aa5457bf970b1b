#include "gloo_peer.h"

#include <gloo/allreduce.h>
#include <gloo/context.h>
#include <gloo/transport/context.h>
#include <gloo/transport/tcp/device.h>

#include <cstring>

namespace colossus {
namespace {

class LoopbackContext final : public gloo::Context {
 public:
  LoopbackContext(int rank, int size) : gloo::Context(rank, size) {}

  // Hands each rank's addresses to the others by `end`.
  Status connect(Communicator& end) {
    gloo::transport::tcp::attr attributes;
    attributes.iface = "lo";
    device_ = gloo::transport::tcp::CreateDevice(attributes);
    transportContext_ = device_->createContext(rank, size);
    transportContext_->setTimeout(std::chrono::seconds(60));
    std::vector<std::vector<std::byte>> sent(static_cast<size_t>(size));
    for (int peer = 0; peer < size; ++peer) {
      if (peer == rank) continue;
      const std::vector<char> bytes = transportContext_->createPair(peer)->address().bytes();
      sent[static_cast<size_t>(peer)].resize(bytes.size());
      std::memcpy(sent[static_cast<size_t>(peer)].data(), bytes.data(), bytes.size());
    }
    std::vector<std::vector<std::byte>> received = sent;
    const std::vector<std::span<const std::byte>> send(sent.begin(), sent.end());
    const std::vector<std::span<std::byte>> receive(received.begin(), received.end());
    RETURN_IF_ERROR(end.all_to_all(send, receive));
    for (int peer = 0; peer < size; ++peer) {
      if (peer == rank) continue;
      const std::vector<std::byte>& bytes = received[static_cast<size_t>(peer)];
      const char* begin = reinterpret_cast<const char*>(bytes.data());
      transportContext_->getPair(peer)->connect({begin, begin + bytes.size()});
    }
    return ok_status();
  }
};

class GlooAllReduce final : public GlooPeer {
 public:
  explicit GlooAllReduce(std::shared_ptr<LoopbackContext> context) : context_(std::move(context)) {}

  std::vector<std::string> algorithms() const override { return {"ring", "bcube"}; }

  Status all_reduce(const std::string& algorithm, std::span<float> values) override {
    gloo::AllreduceOptions options(context_);
    options.setAlgorithm(algorithm == "ring" ? gloo::AllreduceOptions::Algorithm::RING
                                             : gloo::AllreduceOptions::Algorithm::BCUBE);
    options.setOutput(values.data(), values.size());
    options.setReduceFunction([](void* sum, const void* a, const void* b, size_t count) {
      auto* into = static_cast<float*>(sum);
      const auto *left = static_cast<const float*>(a), *right = static_cast<const float*>(b);
      for (size_t i = 0; i < count; ++i) into[i] = left[i] + right[i];
    });
    options.setTag(tag_++);
    try {
      gloo::allreduce(options);
    } catch (const std::exception& error) {
      return unavailable(error.what());
    }
    return ok_status();
  }

 private:
  const std::shared_ptr<LoopbackContext> context_;
  uint32_t tag_ = 0;
};

}  // namespace

Result<std::unique_ptr<GlooPeer>> join_gloo_peer(Communicator& end) {
  auto context = std::make_shared<LoopbackContext>(end.rank(), end.size());
  RETURN_IF_ERROR(context->connect(end));
  return std::make_unique<GlooAllReduce>(std::move(context));
}

}  // namespace colossus
