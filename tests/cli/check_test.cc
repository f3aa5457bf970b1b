// `colossus check` as people and Slurm use it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "io/testing.h"
#include "process.h"

namespace colossus {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr int kSlow = 7, kBad = 8;

class Check : public testing::Test {
 protected:
  Outcome run(std::vector<std::string> words, const std::string& environment = "") const {
    std::string script = environment + " exec " + COLOSSUS_BINARY + " check";
    for (const std::string& word : words) script += " '" + word + "'";
    return Process({"/bin/sh", "-c", script}, directory_.path()).wait();
  }
  // What takes no time.
  std::vector<std::string> quick(std::vector<std::string> more = {}) const {
    std::vector<std::string> words = {"--only", "disk",          "--only", "cpu",        "--dir",
                                      ".",      "--cpu-seconds", "0.02",   "--disk-mib", "4"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  void write(const std::string& name, const std::string& text) const {
    CHECK(write_file_atomically(local_files(), directory_ / name, text).ok());
  }
  std::string read(const std::string& name) const {
    auto text = read_file(local_files(), directory_ / name);
    CHECK(text.ok(), name.c_str());
    return *text;
  }
  TemporaryDirectory directory_;
};

TEST_F(Check, ExpectationsAreWrittenAndHeld) {
  const Outcome written = run(quick({"--write-expected", "expected.toml"}));
  // Whether this machine is busy is not ours to say.
  EXPECT_TRUE(written.exit_code == 0 || written.exit_code == kSlow) << written.err;
  EXPECT_THAT(written.out, AllOf(HasSubstr("gemm_core"), HasSubstr("disk_sync"), HasSubstr("wrong products")));
  EXPECT_THAT(read("expected.toml"), HasSubstr("gemm_core = "));
  write("high.toml", "gemm_core = 1e9\n");
  const Outcome slow = run(quick({"--expect", "high.toml", "--json"}));
  EXPECT_EQ(slow.exit_code, kSlow);
  EXPECT_THAT(slow.out,
              AllOf(StartsWith("{"), HasSubstr("\"verdict\":\"slow\""), HasSubstr("\"expected_from\":\"file\"")));
  EXPECT_EQ(std::count(slow.out.begin(), slow.out.end(), '\n'), 1);
  write("gpus.toml", "gpus = 100000\n");
  const Outcome bad = run({"--only", "gpu", "--expect", "gpus.toml"});
  EXPECT_EQ(bad.exit_code, kBad);
  EXPECT_THAT(bad.out, HasSubstr("bad   gpus"));
  write("wrong.toml", "gemm_cores = 3\n");
  const Outcome wrong = run(quick({"--expect", "wrong.toml"}));
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("did you mean gemm_core?"));
}

TEST_F(Check, SavedLogsAndListingsAreJudged) {
  write("dmesg", "[1.0] NVRM: Xid (PCI:0000:9b:00): 79, pid=1, GPU has fallen off the bus.\n");
  const Outcome bad = run({"--only", "kernel-log", "--kernel-log", "dmesg"});
  EXPECT_EQ(bad.exit_code, kBad);
  EXPECT_THAT(bad.out, HasSubstr("Xid 79 of 0000:9b:00"));
  write("smi", "name, remapped_rows.pending\nNVIDIA H100, No\nNVIDIA H100, Yes\n");
  const Outcome smi = run({"--only", "gpu", "--nvidia-smi", "smi"});
  EXPECT_EQ(smi.exit_code, kBad);
  EXPECT_THAT(smi.out, AllOf(HasSubstr("pass  gpu_0"), HasSubstr("bad   gpu_1")));
  EXPECT_EQ(run({"--only", "gpu", "--nvidia-smi", "none"}).exit_code, 3);
  EXPECT_EQ(run({"--only", "gpus"}).exit_code, 2);
}

TEST_F(Check, AFakeNvidiaSmiIsAsked) {
  ASSERT_TRUE(local_files().make_directories(directory_ / "bin").ok());
  write("bin/nvidia-smi",
        "#!/bin/sh\n[ \"$1\" = -q ] || exit 1\n"
        "printf '%s\\n' '==============NVSMI LOG==============' 'Driver Version : 590.1' 'GPU 00000000:01:00.0' \\\n"
        " '    Product Name : NVIDIA H100' '    Remapped Rows' '        Remapping Failure Occurred : Yes'\n");
  ::chmod((directory_ / "bin/nvidia-smi").c_str(), 0755);
  const Outcome bad = run({"--only", "gpu"}, "PATH=$PWD/bin:$PATH");
  EXPECT_EQ(bad.exit_code, kBad);
  EXPECT_THAT(bad.out, AllOf(HasSubstr("NVIDIA H100, driver 590.1"), HasSubstr("could not be remapped: replace it")));
  write("bin/nvidia-smi", "#!/bin/sh\necho No devices were found; exit 6\n");
  ::chmod((directory_ / "bin/nvidia-smi").c_str(), 0755);
  EXPECT_EQ(run({"--only", "gpu"}, "PATH=$PWD/bin:$PATH").exit_code, kBad);
}

TEST_F(Check, AFleetIsComparedThroughSrun) {
  // Runs the command as four nodes, one after the other; the last one's report is made slower, a fifth does not answer.
  ASSERT_TRUE(local_files().make_directories(directory_ / "bin").ok());
  write("bin/srun",
        "#!/bin/sh\necho srun: job 7 has been allocated resources >&2\n"
        "while [ \"${1#-}\" != \"$1\" ]; do echo \"$1\" >>words; shift; done\n"
        "for n in 1 2 3; do SLURMD_NODENAME=gpu0$n \"$@\" | sed 's/\"gemm_core\",\\(.*\\)\"value\":[0-9.e+]*/"
        "\"gemm_core\",\\1\"value\":50/' || true; done\n"
        "SLURMD_NODENAME=gpu04 \"$@\" | sed "
        "'s/\"gemm_core\",\\(.*\\)\"value\":[0-9.e+]*/\"gemm_core\",\\1\"value\":40/'\n");
  ::chmod((directory_ / "bin/srun").c_str(), 0755);
  const Outcome fleet = run(
      {"--fleet", "--only", "cpu", "--cpu-seconds", "0.02", "--nodelist", "gpu[01-05]", "--srun", "--partition=gpu"},
      "PATH=$PWD/bin:$PATH");
  EXPECT_EQ(fleet.exit_code, kBad) << fleet.out << fleet.err;
  EXPECT_THAT(fleet.out, AllOf(HasSubstr("gpu05: no report"), HasSubstr("5 nodes: "), HasSubstr("1 without a report"),
                               HasSubstr("NodeName=gpu05 State=DRAIN Reason='colossus check: no report'")));
  EXPECT_THAT(read("words"), AllOf(HasSubstr("--ntasks-per-node=1\n"), HasSubstr("--nodelist=gpu[01-05]\n"),
                                   HasSubstr("--partition=gpu\n")));
  write("bin/srun", "#!/bin/sh\necho srun: error: Unable to allocate resources; exit 1\n");
  ::chmod((directory_ / "bin/srun").c_str(), 0755);
  const Outcome failed = run({"--fleet", "--only", "cpu"}, "PATH=$PWD/bin:$PATH");
  EXPECT_EQ(failed.exit_code, 6);
  EXPECT_THAT(failed.err, HasSubstr("Unable to allocate resources"));
}

TEST_F(Check, AFleetsResultsAreCompared) {
  std::string lines;
  for (const auto& [host, rate] :
       {std::pair("n1", 100), std::pair("n2", 101), std::pair("n3", 80), std::pair("n4", 99)})
    lines +=
        fmt::format(R"({{"host":"{}","verdict":"pass","results":[{{"name":"gemm_all","verdict":"pass","value":{}}}]}})"
                    "\n",
                    host, rate);
  write("lines", lines + "{\"host\":\"n5; reboot\",\"verdict\":\"pass\",\"results\":[]}\n");
  const Outcome fleet = run({"--fleet-results", "lines", "--write-expected", "fleet.toml"});
  EXPECT_EQ(fleet.exit_code, kSlow);
  EXPECT_THAT(fleet.out,
              AllOf(HasSubstr("NodeName=n3 State=DRAIN"), HasSubstr("20 % below"), Not(HasSubstr("reboot"))));
  EXPECT_THAT(fleet.err, HasSubstr("line 5: no proper host name"));
  EXPECT_THAT(read("fleet.toml"), HasSubstr("gemm_all = 99.5"));
  EXPECT_EQ(run({"--fleet-results", "fleet.toml"}).exit_code, 2);
}

TEST_F(Check, TwoNodesMeetInAStore) {
  const std::vector<std::string> words = {
      "--only", "links", "--store", directory_ / "store", "--check-id", "a-new-name", "--json", "--interface", "lo"};
  ASSERT_TRUE(local_files().make_directories(directory_ / "store").ok());
  ASSERT_TRUE(local_files().make_directories(directory_ / "other").ok());
  std::vector<std::string> other = words;
  other.insert(other.begin(), {COLOSSUS_BINARY, "check"});
  other.insert(other.end(), {"--node", "1", "--num-nodes", "2"});
  Process second(other, directory_ / "other");
  const Outcome first = run(words, "SLURM_PROCID=0 SLURM_NTASKS=2");
  EXPECT_EQ(first.exit_code, 0) << first.out << first.err;
  EXPECT_THAT(first.out, AllOf(HasSubstr("link_bandwidth"), HasSubstr("clock_offset")));
  EXPECT_EQ(second.wait().exit_code, 0);
  EXPECT_EQ(run({"--only", "links", "--store", directory_ / "store"}).exit_code, 2);
}

// Nobody numbers them, and the same command may be given again.
TEST_F(Check, PeersFindEachOther) {
  ASSERT_TRUE(local_files().make_directories(directory_ / "store").ok());
  ASSERT_TRUE(local_files().make_directories(directory_ / "other").ok());
  write("far.toml", "link_bandwidth = 1e9\n");
  const std::vector<std::string> words = {"--peers", "--num-nodes", "2", "--store", directory_ / "store",
                                          "--json",  "--interface", "lo"};
  std::vector<std::string> other = words;
  other.insert(other.begin(), {COLOSSUS_BINARY, "check"});
  for (const bool expects_too_much : {false, true}) {
    Process second(other, directory_ / "other");
    std::vector<std::string> mine = words;
    if (expects_too_much) mine.insert(mine.end(), {"--expect", "far.toml"});
    const Outcome first = run(mine);
    EXPECT_EQ(first.exit_code, expects_too_much ? kSlow : 0) << first.out << first.err;
    EXPECT_EQ(std::count(first.out.begin(), first.out.end(), '\n'), 1) << first.out;
    EXPECT_THAT(first.out, AllOf(HasSubstr("link_bandwidth"), HasSubstr("link_latency"), Not(HasSubstr("gemm"))));
    if (expects_too_much) EXPECT_THAT(first.out, HasSubstr("\"expected_from\":\"file\""));
    EXPECT_EQ(second.wait().exit_code, 0);
  }
  EXPECT_EQ(run({"--peers", "--num-nodes", "2"}).exit_code, 2);
  EXPECT_EQ(run({"--peers", "--store", directory_ / "store"}).exit_code, 2);
}

}  // namespace
}  // namespace colossus
