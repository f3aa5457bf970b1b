#include "data/man_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "base/rng.h"
#include "data/document_reader.h"

namespace colossus {
namespace {

using ::testing::HasSubstr;

std::string man(const std::string& body) { return render_man_page(".TH X 1\n" + body); }

TEST(ManPage, ManMacros) {
  const std::string page = R"(.\" a comment
.TH LS "1" "September 2022" "GNU coreutils" "User Commands"
.SH NAME
ls \- list directory contents
.SH "SEE ALSO"
.PP
.B ls
[\fI\,OPTION\/\fR]... \fB\-a\fR
and
.BR sort (1),
.IR more .
.TP
\fB\-a\fR
short tag
.TP
.B \-\-author
long tag
.RS
.IP \(bu 2
nested
.RE
.nf
  kept   as
it is
.fi
)";
  EXPECT_EQ(
      render_man_page(page),
      "LS(1) User Commands\n\nNAME\nls - list directory contents\n\nSEE ALSO\nls [OPTION]... -a and sort(1), more.\n\n"
      "-a  short tag\n\n--author\n    long tag\n\n    •   nested\n  kept   as\nit is\n");
}

TEST(ManPage, MdocMacros) {
  const std::string page = R"(.Dd January 1, 2020
.Dt CAT 1
.Os
.Sh NAME
.Nm cat
.Nd concatenate
.Sh SYNOPSIS
.Nm
.Op Fl ab
.Op Fl o Ar name , Fl x
.Ar
.Sh DESCRIPTION
See
.Xr ls 1 ,
.Dq quoted text .
.Oo Fl v Oc
.Pf pre Ar fix Ns s
.Bl -tag -width x
.It Fl a
first
.It Fl b Ar long_argument
second
.El
.Fn open path mode ;
.Bd -literal
a  b
.Ed
)";
  EXPECT_EQ(render_man_page(page),
            "CAT(1)\n\nNAME\ncat - concatenate\n\nSYNOPSIS\ncat [-ab] [-o name, -x] file ...\n\nDESCRIPTION\n"
            "See ls(1), “quoted text”. [-v] prefixs\n\n-a  first\n\n-b long_argument\n    second\nopen(path, "
            "mode);\n\n    a  b\n");
}

TEST(ManPage, Escapes) {
  const auto text = [](const std::string& line) {
    const std::string all = man(line + "\n");
    return all.size() > 6 ? all.substr(6, all.size() - 7) : all;
  };
  EXPECT_EQ(text(R"(a\-b \fBbold\fP \f(CWx\fR \f[B]y\f[R])"), "a-b bold x y");
  EXPECT_EQ(text(R"(\(bu \(em \[aq] \(co \('e \[u00E9] \[u0065_0301])"), "• — ' © é é e\u0301");
  EXPECT_EQ(text(R"(\s-1SMALL\s0 \s+2big\s[10]x\s(12y)"), "SMALL bigxy");
  EXPECT_EQ(text(R"(back\eslash a\ b \&.x \|y\^z)"), "back\\slash a b .x yz");
  EXPECT_EQ(text(R"(n\h'-1'o\v'1m't \w'abc' \n(.g)"), "not 3 1");
  EXPECT_EQ(text(R"(\*(lqa\*(rq \*R \*[unknown])"), "“a” ®");
  EXPECT_EQ(text("one \\\ntwo"), "one two");
  EXPECT_EQ(text("glued\\c\n.B on"), "gluedon");
}

TEST(ManPage, StringsMacrosRegistersAndConditions) {
  EXPECT_THAT(man(".ds Na World\nHello \\*(Na\n"), HasSubstr("Hello World"));
  EXPECT_THAT(man(".de Hi\nHi \\\\$1, \\\\$2!\n..\n.Hi you \"and you\"\n"), HasSubstr("Hi you, and you!"));
  EXPECT_THAT(man(".ie n yes\n.el no\n"), HasSubstr("yes\n"));
  EXPECT_THAT(man(".ie t \\{\\\nno\n.\\}\n.el \\{\\\nyes\n.\\}\nafter\n"), HasSubstr("yes after\n"));
  EXPECT_THAT(man(".nr x 3\n.nr x +2\n.if \\nx=5 five\n.if \\nx>5 six\n.if !'a'b' differ\n"),
              HasSubstr("five differ\n"));
  EXPECT_THAT(man(".if (\\n(.g=1)&(2>1) both\n.if d nothing no\n"), HasSubstr("both\n"));
  EXPECT_THAT(man(".ig\nhidden\n..\nshown\n"),
              ::testing::AllOf(HasSubstr("shown"), ::testing::Not(HasSubstr("hidden"))));
}

TEST(ManPage, Tables) {
  EXPECT_THAT(man(".TS\nallbox tab(|);\nl l.\nname|value\n_\na\\-b|T{\nlong\ntext\nT}\n.TE\nafter\n"),
              HasSubstr("name  value\na-b  long text\n\nafter"));
}

TEST(ManPage, KnowsOnesThatOnlyRefer) {
  EXPECT_EQ(render_man_page(".so man1/other.1\n"), "");
  EXPECT_TRUE(looks_like_man_page(".so man1/other.1\n"));
  EXPECT_FALSE(looks_like_man_page("int main() {}\n"));
}

// Pages that never end by themselves, or nest beyond any stack.
TEST(ManPage, HostilePagesEnd) {
  man(".de X\n.X\n.X\n..\n.X\n");
  man(".ds a \\*a\\*a\n\\*a\n");
  man(".ds a \\*b\\*b\n.ds b \\*c\\*c\n.ds c \\*a\\*a\n\\*a\n");
  std::string nested = ".if n ";
  for (int i = 0; i < 15; ++i) nested += nested;
  man(nested + "x\n");
  man(".if " + std::string(100000, '!') + "n x\n.if " + std::string(100000, '(') + "1 x\n.if " +
      std::string(100000, '-') + "1 x\n");
  std::string operators;
  for (int i = 0; i < 20000; ++i) operators += "Op ";
  render_man_page(".Dd x\n.Sh " + operators + "\n.Op " + operators + "\n.It " + operators + "\n");
  man(".RS\n" + std::string(5000, '\\') + "\n.RE 99\n.in -99999999999999999999\n.nr x 99999999999999999999*99999999\n");
  man(".de X\n\\\\$*\\\\$*\\\\$*\\\\$*\n.X \\\\$* \\\\$*\n..\n.X " + std::string(1000, 'a') + "\n");
}

TEST(ManPage, AlteredPagesNeverCrash) {
  const std::string page =
      ".TH A 1\n.SH B\n.TP 4\n\\fB\\-x\\fR\ny \\*(lq\\(em\\s-1\\w'a'\n.if \\n(.g .ie n \\{x\\}\n.el "
      "z\n.TS\ntab(|);\nl.\na|T{\nb\nT}\n.TE\n.de Q\n\\\\$1\n..\n.Q r\n"
      ".Bl -tag\n.It Fl a Xo\n.Oo x Oc Ns y\n.Xc\n.El\n";
  for (uint64_t i = 0; i < 4000; ++i) {
    std::string altered = page;
    for (uint64_t k = 0; k < 3; ++k) {
      const auto bits = random_block({.seed = 1, .purpose = RngPurpose::kTest, .step = i}, k);
      constexpr std::string_view kBytes = "\\.'{}()[]*n$\"\n \t\xff";
      const size_t at = bits[0] % altered.size();
      if (bits[1] % 3 == 0)
        altered.erase(at, bits[2] % 20);
      else
        altered[at] = kBytes[bits[2] % kBytes.size()];
    }
    render_man_page(altered);
    render_man_page(".Dd x\n" + altered);
  }
}

TEST(ManPage, RealPagesLeaveNoMacros) {
  auto reader = DocumentReader::open(local_files(), {"/usr/share/man/man[1578]/*.gz"}, {});
  if (!reader.ok()) GTEST_SKIP() << "no manual pages here";
  const std::regex macro("(^|\n)[.'](TP|PP|SH|BR|IP|RS|RE|B|I|Nm|Fl|It|Op) ");
  Document document;
  int64_t pages = 0, with_macros = 0, with_name = 0;
  while (pages < 400) {
    const auto more = reader->next(document);
    ASSERT_TRUE(more.ok()) << more.status().message();
    if (!*more) break;
    if (!document.starts) continue;
    ++pages;
    if (std::regex_search(document.text, macro)) ++with_macros;
    if (document.text.find("\nNAME\n") != std::string::npos) ++with_name;
  }
  if (pages < 20) GTEST_SKIP() << "too few manual pages here";
  EXPECT_LE(with_macros * 50, pages);  // pages about roff show macros
  EXPECT_GE(with_name * 10, pages * 8);
}

}  // namespace
}  // namespace colossus
