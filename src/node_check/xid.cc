#include "node_check/xid.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace colossus {
namespace {

constexpr const char* kApplication = "restart the application";
constexpr const char* kReset = "reset the GPU";
constexpr const char* kConvenient = "reset the GPU when convenient";
constexpr const char* kReboot = "restart the node; if it comes again, replace the GPU";
constexpr const char* kLinks = "reset the GPUs at both ends; if it comes again, look at the link";
constexpr const char* kNothing = "nothing";
constexpr const char* kWatch = "nothing now; report it if it goes on";

// By code.
constexpr std::array kXids = {
    XidMeaning{8, Verdict::kPass, "the GPU stopped processing a channel", kApplication},
    XidMeaning{11, Verdict::kPass, "a broken stream of commands", kApplication},
    XidMeaning{13, Verdict::kPass, "an exception of the compute engine, mostly an application's", kApplication},
    XidMeaning{25, Verdict::kPass, "a broken stream of commands", kApplication},
    XidMeaning{31, Verdict::kPass, "a page fault, mostly an application's", kApplication},
    XidMeaning{32, Verdict::kSlow, "commands arrived damaged: often the PCI Express link",
               "restart the application; if it comes again, look at the link"},
    XidMeaning{37, Verdict::kPass, "an error of the driver's firmware", kNothing},
    XidMeaning{38, Verdict::kPass, "an error of the driver's firmware", kNothing},
    XidMeaning{39, Verdict::kPass, "an exception of a copy engine", kApplication},
    XidMeaning{40, Verdict::kPass, "an exception of a copy engine", kApplication},
    XidMeaning{41, Verdict::kPass, "an exception of a copy engine", kApplication},
    XidMeaning{43, Verdict::kPass, "an application's fault ended it; the GPU is well", kNothing},
    XidMeaning{44, Verdict::kPass, "a fault during a context switch", kNothing},
    XidMeaning{45, Verdict::kPass, "an application was ended, by an earlier error or from outside", kNothing},
    XidMeaning{46, Verdict::kBad, "the GPU stopped processing", kReset},
    XidMeaning{48, Verdict::kBad, "an uncorrectable error of its memory (ECC)", kReset},
    XidMeaning{54, Verdict::kBad, "auxiliary power is not connected", "look at the cables"},
    XidMeaning{60, Verdict::kPass, "an exception of the video processor", kApplication},
    XidMeaning{62, Verdict::kBad, "an internal micro-controller halted", kReset},
    XidMeaning{63, Verdict::kSlow, "a row of memory will be remapped (ECC)", kConvenient},
    XidMeaning{64, Verdict::kBad, "remapping a row of memory failed", "reset the GPU; if it comes again, replace it"},
    XidMeaning{66, Verdict::kPass, "an illegal access by the driver", kNothing},
    XidMeaning{67, Verdict::kPass, "an illegal access by the driver", kNothing},
    XidMeaning{68, Verdict::kPass, "an exception of the video decoder", kApplication},
    XidMeaning{69, Verdict::kPass, "an exception of the compute engine's class", kApplication},
    XidMeaning{70, Verdict::kPass, "an error of a copy engine", kApplication},
    XidMeaning{71, Verdict::kPass, "an error of a copy engine", kApplication},
    XidMeaning{72, Verdict::kPass, "an error of a copy engine", kApplication},
    XidMeaning{74, Verdict::kBad, "an error of an NVLink", kLinks},
    XidMeaning{75, Verdict::kPass, "an error of a copy engine", kApplication},
    XidMeaning{76, Verdict::kPass, "an error of a copy engine", kApplication},
    XidMeaning{77, Verdict::kPass, "an error of a copy engine", kApplication},
    XidMeaning{78, Verdict::kSlow, "a virtual GPU did not start", "update its software"},
    XidMeaning{79, Verdict::kBad, "the GPU has fallen off the bus", kReboot},
    XidMeaning{80, Verdict::kSlow, "data reached the GPU damaged",
               "restart the application; watch the PCI Express link"},
    XidMeaning{92, Verdict::kSlow, "many correctable memory errors (ECC)", kWatch},
    XidMeaning{93, Verdict::kPass, "the InfoROM's limit of erasures", kNothing},
    XidMeaning{94, Verdict::kSlow, "a contained memory error (ECC): one application was ended", kConvenient},
    XidMeaning{95, Verdict::kBad, "an uncontained memory error (ECC)", kReset},
    XidMeaning{109, Verdict::kBad, "a context switch did not end in time", kReset},
    XidMeaning{110, Verdict::kBad, "a security fault, mostly of the hardware", kReboot},
    XidMeaning{119, Verdict::kBad, "the GPU's system processor (GSP) does not answer", kReset},
    XidMeaning{120, Verdict::kBad, "an error of the GPU's system processor (GSP)", kReset},
    XidMeaning{121, Verdict::kSlow, "corrected errors on the link to the CPU (C2C)", kConvenient},
    XidMeaning{136, Verdict::kBad, "an NVLink could not be trained", kLinks},
    XidMeaning{137, Verdict::kPass, "an illegal access to another GPU, mostly an application's", kApplication},
    XidMeaning{140, Verdict::kBad, "an uncorrectable memory error that could not be handled (ECC)", kReset},
    XidMeaning{141, Verdict::kPass, "an error of CUDA's fast path", kNothing},
    XidMeaning{143, Verdict::kBad, "the GPU could not be initialised", kReset},
    XidMeaning{144, Verdict::kBad, "an error of an NVLink (SAW)", kLinks},
    XidMeaning{145, Verdict::kBad, "an error of an NVLink (RLW)", kLinks},
    XidMeaning{146, Verdict::kBad, "an error of an NVLink (TLW)", kLinks},
    XidMeaning{147, Verdict::kBad, "an error of an NVLink (TREX)", kLinks},
    XidMeaning{148, Verdict::kBad, "an error of an NVLink (NVLPW)", kLinks},
    XidMeaning{149, Verdict::kBad, "an error of an NVLink (NETIR)", kLinks},
    XidMeaning{150, Verdict::kBad, "an error of an NVLink (MSE)", kLinks},
    XidMeaning{151, Verdict::kSlow, "an error of key rotation", "restart the virtual machine"},
    XidMeaning{154, Verdict::kBad, "the action needed to recover the GPU changed", "do what the line says"},
    XidMeaning{155, Verdict::kBad, "an NVLink went down by software", kReset},
    XidMeaning{156, Verdict::kBad, "a part of the GPU was retired", kReset},
    XidMeaning{157, Verdict::kSlow, "nothing is left to repair a part of the GPU with", kWatch},
    XidMeaning{158, Verdict::kBad, "a fatal timeout of the GPU", kReset},
    XidMeaning{160, Verdict::kSlow, "a memory channel was retired", kWatch},
    XidMeaning{161, Verdict::kSlow, "a memory channel could not be retired", kWatch},
    XidMeaning{167, Verdict::kBad, "a fatal timeout of the PCI Express link", kReboot},
    XidMeaning{171, Verdict::kBad, "an uncorrectable error of DRAM, beside Xid 48", kReset},
    XidMeaning{172, Verdict::kBad, "an uncorrectable error of SRAM, beside Xid 48", kReset},
};
static_assert(std::ranges::is_sorted(kXids, {}, &XidMeaning::code));

bool contains_ignoring_case(std::string_view text, std::string_view part) {
  const auto found = std::search(text.begin(), text.end(), part.begin(), part.end(), [](char a, char b) {
    return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b));
  });
  return found != text.end();
}

bool is_non_fatal(std::string_view text) {
  return contains_ignoring_case(text, "non-fatal") || contains_ignoring_case(text, "nonfatal");
}

}  // namespace

const XidMeaning* find_xid(int code) {
  const auto found = std::ranges::lower_bound(kXids, code, {}, &XidMeaning::code);
  return found != kXids.end() && found->code == code ? &*found : nullptr;
}

std::optional<XidLine> parse_xid(std::string_view line) {
  size_t at = line.find("SXid (");
  XidLine parsed{.of_switch = at != std::string_view::npos};
  if (!parsed.of_switch) at = line.find("NVRM: Xid (");
  if (at == std::string_view::npos) return std::nullopt;
  const size_t open = line.find('(', at), close = line.find("): ", open);
  if (close == std::string_view::npos) return std::nullopt;
  std::string_view device = line.substr(open + 1, close - open - 1);
  if (device.starts_with("PCI:")) device.remove_prefix(4);
  parsed.device = device;
  const char* const begin = line.data() + close + 3;
  const char* const end = line.data() + line.size();
  const auto [rest, error] = std::from_chars(begin, end, parsed.code);
  if (error != std::errc() || parsed.code <= 0) return std::nullopt;
  std::string_view text(rest, static_cast<size_t>(end - rest));
  text.remove_prefix(std::min(text.find_first_not_of(", "), text.size()));
  parsed.text = text;
  return parsed;
}

XidJudgement judge_xid(const XidLine& line) {
  if (line.of_switch) {
    // Their numbers are in the Fabric Manager's guide; each line says whether it is fatal.
    const bool mild = is_non_fatal(line.text);
    return {mild ? Verdict::kSlow : Verdict::kBad,
            fmt::format("an error of an NVSwitch: {}", mild ? "watch its links" : "reset the GPUs and NVSwitches")};
  }
  const XidMeaning* known = find_xid(line.code);
  if (known == nullptr) return {Verdict::kSlow, "not in this program's table: see NVIDIA's Xid documentation"};
  XidJudgement judgement{known->verdict, fmt::format("{}: {}", known->meaning, known->action)};
  constexpr int kRecoveryAction = 154, kFirstNvlink5 = 144, kLastNvlink5 = 150;
  // "... changed from 0x1 (GPU Reset Required) to 0x0 (None)"
  if (line.code == kRecoveryAction && line.text.rfind("(None)") != std::string::npos &&
      line.text.rfind("(None)") > line.text.rfind(" to "))
    judgement.verdict = Verdict::kPass;
  if (line.code >= kFirstNvlink5 && line.code <= kLastNvlink5 && is_non_fatal(line.text))
    judgement.verdict = Verdict::kSlow;
  return judgement;
}

}  // namespace colossus
