#include "node_check/kernel_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "io/file_system.h"
#include "node_check/xid.h"

namespace colossus {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const std::string kSaved = COLOSSUS_SOURCE_DIR "/../shared/data/gpu/gpud/";

std::string saved(const std::string& name) {
  auto text = read_file(local_files(), kSaved + name);
  CHECK(text.ok(), name.c_str());
  return *text;
}

std::vector<std::string> kinds_of(const std::vector<KernelLogFinding>& findings) {
  std::vector<std::string> kinds;
  for (const KernelLogFinding& finding : findings)
    kinds.push_back(fmt::format("{} x{} {}", finding.kind, finding.count, verdict_name(finding.verdict)));
  return kinds;
}

TEST(Xid, LinesAreParsedInEveryForm) {
  const auto now = parse_xid("[1.5] NVRM: Xid (PCI:0000:9b:00): 119, pid=7, name=nvidia-smi, Timeout after 6s");
  ASSERT_TRUE(now);
  EXPECT_EQ(now->code, 119);
  EXPECT_EQ(now->device, "0000:9b:00");
  EXPECT_EQ(now->text, "pid=7, name=nvidia-smi, Timeout after 6s");
  EXPECT_FALSE(now->of_switch);
  const auto old = parse_xid("NVRM: Xid (0000:03:00): 14, Channel 00000001");
  ASSERT_TRUE(old);
  EXPECT_EQ(old->code, 14);
  EXPECT_EQ(old->device, "0000:03:00");
  const auto of_switch = parse_xid("nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 28006, Non-fatal, Link 46 overflow");
  ASSERT_TRUE(of_switch);
  EXPECT_TRUE(of_switch->of_switch);
  EXPECT_EQ(of_switch->code, 28006);
  for (const char* line :
       {"", "NVRM: Xid (", "NVRM: Xid (PCI:0000:9b:00): ", "NVRM: Xid (PCI:0): -3, a", "Xid (PCI:0): 3",
        "NVRM: Xid (PCI:0000:9b:00) 119", "NVRM: Xid (a): 99999999999999999999, b"})
    EXPECT_FALSE(parse_xid(line)) << line;
}

TEST(Xid, VerdictsFollowTheActionThatIsNeeded) {
  const auto verdict = [](int code, const char* text = "") {
    return judge_xid({.device = "0", .code = code, .text = text}).verdict;
  };
  for (const int harmless : {13, 31, 43, 45}) EXPECT_EQ(verdict(harmless), Verdict::kPass) << harmless;
  for (const int watched : {63, 92, 94}) EXPECT_EQ(verdict(watched), Verdict::kSlow) << watched;
  for (const int broken : {46, 48, 62, 64, 74, 79, 95, 119, 120, 140, 143})
    EXPECT_EQ(verdict(broken), Verdict::kBad) << broken;
  EXPECT_EQ(verdict(4711), Verdict::kSlow);  // unknown to us
  EXPECT_EQ(verdict(154, "GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)"), Verdict::kBad);
  EXPECT_EQ(verdict(154, "GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)"), Verdict::kPass);
  EXPECT_EQ(verdict(149, "NETIR_BER_EVENT Nonfatal XC0 i0 Link 03"), Verdict::kSlow);
  EXPECT_EQ(verdict(149, "NETIR_LINK_EVT Fatal XC0 i0 Link 08"), Verdict::kBad);
  EXPECT_EQ(judge_xid({.of_switch = true, .code = 12028, .text = "Non-fatal, Link 61"}).verdict, Verdict::kSlow);
  EXPECT_EQ(judge_xid({.of_switch = true, .code = 20034, .text = "Fatal, Link 30 LTSSM Fault Up"}).verdict,
            Verdict::kBad);
}

TEST(KernelLog, CountsWhatBelongsTogetherAndKeepsTheLastLine) {
  const std::string log =
      "[   10.000000] NVRM: Xid (PCI:0000:9b:00): 79, pid=1, GPU has fallen off the bus.\n"
      "[   11.000000] eth0: link becomes ready\n"
      "[   12.000000] NVRM: Xid (PCI:0000:9b:00): 79, pid=2, GPU has fallen off the bus.\n"
      "[   13.000000] NVRM: Xid (PCI:0000:9c:00): 31, pid=2, MMU Fault\n"
      "[   14.000000] mce: [Hardware Error]: Machine check events logged\n"
      "[   15.000000] EDAC MC0: 1 CE memory read error on CPU_SrcID#0\n"
      "[   16.000000] nvme nvme0: controller is down; will reset: CSTS=0xffffffff\n"
      "[   17.000000] blk_update_request: I/O error, dev sda, sector 2048\n"
      "[   18.000000] INFO: task kworker blocked for more than 120 seconds.\n";
  EXPECT_THAT(kinds_of(scan_kernel_log(log, {.seconds_since_boot = 20})),
              ElementsAre("Xid 79 of 0000:9b:00 x2 bad", "Xid 31 of 0000:9c:00 x1 pass", "machine_check x1 slow",
                          "memory_corrected x1 slow", "disk_error x2 bad", "hung_task x1 slow"));
  const CheckResult result = judge_kernel_log(log, {.seconds_since_boot = 20});
  EXPECT_EQ(result.verdict, Verdict::kBad);
  EXPECT_EQ(result.value, 7);  // without the application's own page fault
  EXPECT_THAT(result.message, testing::StartsWith("Xid 79 of 0000:9b:00 (2 times): the GPU has fallen off the bus"));
}

TEST(KernelLog, WhatIsOldDoesNotCount) {
  const std::string dmesg = "[  100.000000] NVRM: Xid (PCI:0000:9b:00): 79, pid=1\n";
  const std::string kmsg = "6,3973,100000000,-;NVRM: Xid (PCI:0000:9b:00): 79, pid=1\n";
  const std::string dated = "[Sun Feb 23 16:24:18 2025] NVRM: Xid (PCI:0000:9b:00): 79, pid=1\n";
  for (const std::string& log : {dmesg, kmsg}) {
    EXPECT_EQ(scan_kernel_log(log, {.max_age_seconds = 60, .seconds_since_boot = 159}).size(), 1u) << log;
    EXPECT_THAT(scan_kernel_log(log, {.max_age_seconds = 60, .seconds_since_boot = 161}), IsEmpty()) << log;
  }
  EXPECT_EQ(scan_kernel_log(dated, {.max_age_seconds = 60, .seconds_since_boot = 161}).size(), 1u);
}

TEST(KernelLog, AnyBytesAreTaken) {
  using std::string_literals::operator""s;
  const std::string garbage = "\xff\x00[;,,,;[]](NVRM: Xid (\n[\n;\n6,1,;\nSXid ("s;
  EXPECT_THAT(scan_kernel_log(garbage, {}), IsEmpty());
  EXPECT_EQ(judge_kernel_log("", {}).verdict, Verdict::kPass);
}

TEST(KernelLog, RealLogs) {
  if (!std::filesystem::exists(kSaved)) GTEST_SKIP() << "needs ../shared";
  EXPECT_THAT(kinds_of(scan_kernel_log(saved("dmesg-with-xid-119.log"), {})),
              ElementsAre("Xid 119 of 0000:9b:00 x5 bad"));
  EXPECT_THAT(kinds_of(scan_kernel_log(saved("fabricmanager.log"), {})), ElementsAre("nvswitch x1 slow"));
  EXPECT_THAT(kinds_of(scan_kernel_log(saved("kmsg.1.log"), {})), IsEmpty());
  EXPECT_THAT(kinds_of(scan_kernel_log(saved("kmsg.2.peermem.log"), {})), ElementsAre("peermem x7 slow"));
  EXPECT_THAT(kinds_of(scan_kernel_log(saved("nccl_segfault_dmesg.log"), {})), ElementsAre("nccl_crash x2 slow"));
}

}  // namespace
}  // namespace colossus
