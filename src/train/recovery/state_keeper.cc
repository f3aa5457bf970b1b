#include "train/recovery/state_keeper.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "base/milestone.h"
#include "comm/agreement.h"
#include "comm/texts.h"

namespace colossus {
namespace {

constexpr int64_t kFloat = 4;  // bytes

// Parts are ranges of a tensor, or of a slice that ranks along tensor and expert axes have of it. These axes stay what
// they are as long as a run is in memory, so slices are the same or have nothing in common.
std::string key_of(const StatePart& part) {
  const Slice& slice = part.piece.slice;
  if (slice.shape == part.whole) return part.name;
  std::string key = part.name;
  for (int i = 0; i < slice.shape.rank(); ++i)
    key += fmt::format(":{}-{}", slice.begin[static_cast<size_t>(i)],
                       slice.begin[static_cast<size_t>(i)] + slice.shape[i]);
  return key;
}

}  // namespace

std::string StateKeeper::text_of(const std::vector<KeptPart>& parts) {
  std::string text;
  for (const KeptPart& part : parts)
    text += fmt::format("{} {} {}\n", part.name, part.elements.begin, part.elements.end);
  return text;
}

Result<std::vector<StateKeeper::KeptPart>> StateKeeper::parts_of(const std::string& text) {
  std::vector<KeptPart> parts;
  int64_t offset = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    const size_t second = line.rfind(' '), first = second == std::string::npos ? second : line.rfind(' ', second - 1);
    if (first == std::string::npos) return corrupt(fmt::format("a rank's table of kept parts has the line '{}'", line));
    KeptPart part{.name = line.substr(0, first), .offset = offset};
    part.elements = {std::strtoll(line.c_str() + first, nullptr, 10), std::strtoll(line.c_str() + second, nullptr, 10)};
    if (part.elements.begin < 0 || part.elements.size() <= 0 || part.elements.end > int64_t{1} << 48)
      return corrupt(fmt::format("a rank's table of kept parts has the line '{}'", line));
    offset += part.elements.size();
    parts.push_back(std::move(part));
    at = end + 1;
  }
  return parts;
}

Status StateKeeper::add_copies(const std::vector<KeptPart>& parts, std::vector<std::unique_ptr<Copy>>& copies) {
  const int64_t size = parts.empty() ? 0 : parts.back().offset + parts.back().elements.size();
  for (int i = 0; i < 2; ++i) {
    auto copy = std::make_unique<Copy>();
    copy->parts = parts;
    ASSIGN_OR_RETURN(copy->bytes, Buffer::allocate(std::max<int64_t>(1, size * kFloat)));
    copies.push_back(std::move(copy));
  }
  return ok_status();
}

Status StateKeeper::begin(std::unique_ptr<Communicator> peers, int distance, const std::vector<StatePart>& parts) {
  static_cast<void>(finish_copies());  // of a layout that is over
  for (auto* copies : {&own_, &of_peer_}) {
    for (auto& copy : *copies) before_.push_back(std::move(copy));
    copies->clear();
  }
  // Of those only whole ones are worth their memory.
  std::erase_if(before_, [](const auto& copy) { return copy->position.step < 0; });
  num_kept_ = 0;
  peers_ = std::move(peers);
  std::vector<KeptPart> own;
  int64_t offset = 0;
  for (const StatePart& part : parts) {
    own.push_back({.name = key_of(part), .elements = {part.piece.begin, part.piece.end}, .offset = offset});
    offset += part.piece.size();
  }
  RETURN_IF_ERROR(add_copies(own, own_));
  if (!peers_) return ok_status();
  const int size = peers_->size();
  to_ = (peers_->rank() + distance) % size;
  from_ = (peers_->rank() + size - distance) % size;
  std::vector<std::string> tables(static_cast<size_t>(size));
  tables[static_cast<size_t>(to_)] = text_of(own);
  ASSIGN_OR_RETURN(const auto received, exchange_texts(*peers_, tables));
  ASSIGN_OR_RETURN(const auto of_peer, parts_of(received[static_cast<size_t>(from_)]));
  return add_copies(of_peer, of_peer_);
}

StateKeeper::Copy& StateKeeper::oldest(std::vector<std::unique_ptr<Copy>>& copies) {
  return copies[0]->position.step <= copies[1]->position.step ? *copies[0] : *copies[1];
}

Status StateKeeper::keep(const RunPosition& position, Device& device, const std::vector<StatePart>& parts) {
  RETURN_IF_ERROR(finish_copies());
  // The step behind the first one kept was taken by all, so all have kept the first.
  if (++num_kept_ == 2) before_.clear();
  Copy& own = oldest(own_);
  CHECK(own.parts.size() == parts.size());
  own.position.step = -1;
  for (size_t i = 0; i < parts.size(); ++i)
    device.read(
        *parts[i].memory, parts[i].offset_bytes,
        {own.bytes.data() + own.parts[i].offset * kFloat, static_cast<size_t>(own.parts[i].elements.size() * kFloat)});
  own.position = position;
  if (peers_) thread_ = std::thread([this, &own, &of_peer = oldest(of_peer_)] { hand_on(own, of_peer); });
  return ok_status();
}

void StateKeeper::hand_on(Copy& own, Copy& of_peer) {
  of_peer.position.step = -1;
  RunPosition position;
  milestone("copy");
  copied_ = peers_->send_receive(bytes_of(own.position), to_, writable_bytes_of(position), from_);
  const auto bytes_of_copy = [](Copy& copy) {
    const int64_t size = copy.parts.empty() ? 0 : copy.parts.back().offset + copy.parts.back().elements.size();
    return std::span(copy.bytes.data(), static_cast<size_t>(size * kFloat));
  };
  if (copied_.ok()) copied_ = peers_->send_receive(bytes_of_copy(own), to_, bytes_of_copy(of_peer), from_);
  if (copied_.ok()) of_peer.position = position;
}

Status StateKeeper::finish_copies() {
  if (!thread_.joinable()) return ok_status();
  thread_.join();
  return copied_;
}

void StateKeeper::abort(const std::string& reason) {
  if (peers_) peers_->abort(reason);
}

std::vector<const StateKeeper::Copy*> StateKeeper::all_copies() const {
  std::vector<const Copy*> all;
  for (const auto* copies : {&own_, &of_peer_, &before_})
    for (const auto& copy : *copies)
      if (copy->position.step >= 0) all.push_back(copy.get());
  return all;
}

int64_t StateKeeper::num_bytes() const {
  int64_t bytes = 0;
  for (const auto* copies : {&own_, &of_peer_, &before_})
    for (const auto& copy : *copies) bytes += copy->bytes.num_bytes();
  return bytes;
}

// Where everything is that anybody has kept, as all ranks know it.
class StateKeeper::StateSearch {
 public:
  StateSearch(Communicator& world, const std::vector<const Copy*>& own) : world_(world), own_(own) {}

  // Tells the others what this rank has, and hears what they have.
  Status share() {
    std::string mine;
    for (const Copy* copy : own_)
      mine += fmt::format("copy {}\n{}\n", copy->position.step, StateKeeper::text_of(copy->parts));
    ASSIGN_OR_RETURN(const auto texts, share_texts(world_, mine));
    holders_.resize(texts.size());
    for (size_t rank = 0; rank < texts.size(); ++rank) RETURN_IF_ERROR(parse(texts[rank], holders_[rank]));
    return ok_status();
  }

  // Steps that somebody has, the newest first.
  std::vector<int64_t> steps() const {
    std::vector<int64_t> steps;
    for (const auto& copies : holders_)
      for (const Held& copy : copies) steps.push_back(copy.step);
    std::sort(steps.rbegin(), steps.rend());
    steps.erase(std::unique(steps.begin(), steps.end()), steps.end());
    return steps;
  }

  // Where this rank gets the elements of `needed` at `step` from: by rank. Nothing if some are nowhere.
  using Found = std::vector<std::vector<Stretch>>;
  std::optional<Found> find(int64_t step, const std::vector<StatePart>& needed) const {
    Found result(holders_.size());
    std::map<std::string, std::vector<Piece1D>> by_name = pieces_at(step);
    for (size_t i = 0; i < needed.size(); ++i) {
      const auto& pieces = by_name[key_of(needed[i])];
      int64_t at = needed[i].piece.begin;
      for (const Piece1D& piece : pieces) {  // rising by begin; this rank's own first among equals
        if (at >= needed[i].piece.end || piece.elements.begin > at) break;
        if (piece.elements.end <= at) continue;
        const int64_t end = std::min(piece.elements.end, needed[i].piece.end);
        result[piece.rank].push_back({.copy = piece.copy,
                                      .from = piece.offset + at - piece.elements.begin,
                                      .count = end - at,
                                      .part = i,
                                      .to = at - needed[i].piece.begin});
        at = end;
      }
      if (at < needed[i].piece.end) return std::nullopt;
    }
    return result;
  }

 private:
  struct Held {
    int64_t step;
    std::vector<KeptPart> parts;
  };
  struct Piece1D {
    ElementRange elements;
    size_t rank;
    int64_t copy, offset;
  };

  static Status parse(const std::string& text, std::vector<Held>& copies) {
    for (size_t at = 0; at < text.size();) {
      const size_t line_end = text.find('\n', at), end = text.find("\n\n", at);
      if (!text.substr(at).starts_with("copy ") || line_end == std::string::npos || end == std::string::npos)
        return corrupt("a rank's table of kept copies cannot be read");
      Held held{.step = std::strtoll(text.c_str() + at + 5, nullptr, 10), .parts = {}};
      if (end > line_end) {
        ASSIGN_OR_RETURN(held.parts, StateKeeper::parts_of(text.substr(line_end + 1, end - line_end)));
      }
      copies.push_back(std::move(held));
      at = end + 2;
    }
    return ok_status();
  }

  std::map<std::string, std::vector<Piece1D>> pieces_at(int64_t step) const {
    std::map<std::string, std::vector<Piece1D>> by_name;
    const auto ranks = holders_.size(), own = static_cast<size_t>(world_.rank());
    // Beginning with this rank, so that what it has is not asked of others, and others are asked in turn.
    for (size_t i = 0; i < ranks; ++i) {
      const size_t rank = (own + i) % ranks;
      for (size_t copy = 0; copy < holders_[rank].size(); ++copy) {
        if (holders_[rank][copy].step != step) continue;
        for (const KeptPart& part : holders_[rank][copy].parts)
          by_name[part.name].push_back({part.elements, rank, static_cast<int64_t>(copy), part.offset});
      }
    }
    for (auto& [name, pieces] : by_name)
      std::stable_sort(pieces.begin(), pieces.end(),
                       [](const auto& a, const auto& b) { return a.elements.begin < b.elements.begin; });
    return by_name;
  }

  Communicator& world_;
  const std::vector<const Copy*>& own_;
  std::vector<std::vector<Held>> holders_;  // by rank
};

// The parts of this rank's copies that another one asks for, as bytes one after another.
Result<std::string> StateKeeper::answer(const std::vector<const Copy*>& own, size_t rank, const std::string& request) {
  std::string bytes;
  for (const char *at = request.c_str(), *end = at + request.size(); at < end;) {
    char* next = nullptr;
    const int64_t copy = std::strtoll(at, &next, 10), from = std::strtoll(next, &next, 10),
                  count = std::strtoll(next, &next, 10);
    at = next + 1;
    const bool known = copy >= 0 && copy < static_cast<int64_t>(own.size()) && from >= 0 && count >= 0 &&
                       from <= own[static_cast<size_t>(copy)]->bytes.num_bytes() / kFloat - count;
    if (!known) return corrupt(fmt::format("rank {} asks for a part of state that is not here", rank));
    bytes.append(reinterpret_cast<const char*>(own[static_cast<size_t>(copy)]->bytes.data() + from * kFloat),
                 static_cast<size_t>(count * kFloat));
  }
  return bytes;
}

// Every rank asks the holders of what it found, and writes what they send. Takes memory for what it is sent.
Status StateKeeper::fetch(Communicator& world, Device& device, const std::vector<const Copy*>& own,
                          const std::vector<std::vector<Stretch>>& found, const std::vector<StatePart>& needed) {
  std::vector<std::string> requests;  // by holder; what it sends comes in the same order
  for (const auto& stretches : found) {
    std::string text;
    for (const auto& stretch : stretches) text += fmt::format("{} {} {}\n", stretch.copy, stretch.from, stretch.count);
    requests.push_back(std::move(text));
  }
  ASSIGN_OR_RETURN(const auto asked, exchange_texts(world, requests));
  std::vector<std::string> answers;
  for (size_t rank = 0; rank < asked.size(); ++rank) {
    ASSIGN_OR_RETURN(std::string bytes, answer(own, rank, asked[rank]));
    answers.push_back(std::move(bytes));
  }
  int64_t num_bytes = 0;
  for (const auto& stretches : found)
    for (const auto& stretch : stretches) num_bytes += stretch.count * kFloat;
  ASSIGN_OR_RETURN(const auto received, exchange_texts(world, answers, num_bytes));
  for (size_t rank = 0; rank < received.size(); ++rank) {
    size_t at = 0;
    for (const auto& stretch : found[rank]) {
      const auto bytes = static_cast<size_t>(stretch.count * kFloat);
      if (received[rank].size() - at < bytes)
        return corrupt(fmt::format("rank {} sends too little of its state", rank));
      const StatePart& part = needed[stretch.part];
      device.write(*part.memory, part.offset_bytes + stretch.to * kFloat,
                   std::as_bytes(std::span(received[rank].data() + at, bytes)));
      at += bytes;
    }
  }
  return ok_status();
}

// Of whoever has it; they are all the same.
Result<RunPosition> StateKeeper::position_at(Communicator& world, const std::vector<const Copy*>& own, int64_t step) {
  RunPosition mine{.step = -1};
  for (const Copy* copy : own)
    if (copy->position.step == step) mine = copy->position;
  ASSIGN_OR_RETURN(const auto all, share_values(world, mine));
  for (const RunPosition& position : all)
    if (position.step == step) return position;
  return corrupt(fmt::format("no rank knows the position of step {}, which some said they have", step));
}

Result<std::optional<RunPosition>> StateKeeper::restore(Communicator& world, Device& device,
                                                        const std::vector<StatePart>& needed) {
  const std::vector<const Copy*> own = all_copies();
  StateSearch search(world, own);
  RETURN_IF_ERROR(search.share());
  for (const int64_t step : search.steps()) {
    const auto found = search.find(step, needed);
    ASSIGN_OR_RETURN(const auto all, share_values<char>(world, found ? 1 : 0));
    if (std::find(all.begin(), all.end(), 0) != all.end()) continue;
    RETURN_IF_ERROR(fetch(world, device, own, *found, needed));
    ASSIGN_OR_RETURN(const RunPosition position, position_at(world, own, step));
    return std::optional(position);
  }
  return std::optional<RunPosition>();
}

}  // namespace colossus
