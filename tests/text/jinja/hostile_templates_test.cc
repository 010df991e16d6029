// Templates that would hang, overflow the stack or fill the memory end with an Error.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include "tests/text/jinja/rendering.h"

namespace thermocline {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

std::string Repeated(const std::string& text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

jinja::Limits SmallLimits() {
  jinja::Limits limits;
  limits.max_steps = 200'000;
  limits.max_output_bytes = 1 << 20;
  limits.max_value_bytes = 1 << 20;
  limits.max_memory_bytes = 8 << 20;
  return limits;
}

std::string SmallError(const std::string& source) {
  return RenderingError(source, {}, SmallLimits());
}

TEST(HostileTemplates, LoopsEnd) {
  const std::string loops = "{% set r = range(1000) %}" + Repeated("{% for i in r %}", 5) + "x" +
                            Repeated("{% endfor %}", 5);
  EXPECT_THAT(RenderingError(loops, {}, SmallLimits()), HasSubstr("steps"));
  EXPECT_THAT(RenderingError("{% set l = [1] %}{% for i in range(60) %}{% set _ = l.extend(l) %}"
                             "{% endfor %}",
                             {}, SmallLimits()),
              HasSubstr("the template"));
  EXPECT_THAT(RenderingError("{{ range(10 ** 9) }}"), HasSubstr("a range of more than"));
}

TEST(HostileTemplates, RecursionEnds) {
  EXPECT_THAT(RenderingError("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
              HasSubstr("levels deep"));
  EXPECT_THAT(RenderingError("{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}"
                             "{% endmacro %}{{ m() }}"),
              HasSubstr("levels deep"));
  const std::string ring = "{% set l = [] %}{% set _ = l.append(l) %}";
  EXPECT_THAT(RenderingError(ring + "{{ l }}"), HasSubstr("levels deep"));
  EXPECT_THAT(RenderingError(ring + "{{ l | tojson }}"), HasSubstr("levels deep"));
  EXPECT_THAT(RenderingError(ring + "{% set k = [] %}{% set _ = k.append(k) %}{{ l == k }}"),
              HasSubstr("levels deep"));
  EXPECT_THAT(RenderingError("{% set ns = namespace(l=[]) %}{% for i in range(50000) %}"
                             "{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}"),
              HasSubstr("levels deep"));
}

TEST(HostileTemplates, FiltersThatApplyFiltersEnd) {
  EXPECT_THAT(RenderingError("{% set ns = namespace(l=[1]) %}{% for i in range(5000) %}"
                             "{% set ns.l = [ns.l] %}{% endfor %}"
                             "{{ ns.l | map(*(['map'] * 4990)) | list | length }}"),
              HasSubstr("levels deep"));
}

TEST(HostileTemplates, DeepNestingIsRefused) {
  constexpr int kDeep = 5000;
  const std::vector<std::string> templates = {
      "{{ " + Repeated("(", kDeep) + "1" + Repeated(")", kDeep) + " }}",
      "{{ " + Repeated("[", kDeep) + Repeated("]", kDeep) + " }}",
      "{{ " + Repeated("{1:", kDeep) + "1" + Repeated("}", kDeep) + " }}",
      "{{ " + Repeated("not ", kDeep) + "1 }}",
      "{{ " + Repeated("-", kDeep) + "1 }}",
      "{{ a" + Repeated(".a", kDeep) + " }}",
      "{{ a" + Repeated("|e", kDeep) + " }}",
      "{{ a" + Repeated("[0]", kDeep) + " }}",
      "{{ 1" + Repeated(" + 1", kDeep) + " }}",
      "{{ " + Repeated("a is in ", kDeep) + "a }}",
      "{{ " + Repeated("1 if 1 else ", kDeep) + "1 }}",
      "{{ 1" + Repeated(" if 1", kDeep) + " }}",
      Repeated("{% if 1 %}", kDeep) + Repeated("{% endif %}", kDeep),
      Repeated("{% for a in [1] %}", kDeep) + Repeated("{% endfor %}", kDeep),
      Repeated("{% macro m() %}", kDeep) + Repeated("{% endmacro %}", kDeep),
  };
  for (const std::string& source : templates) {
    EXPECT_THAT(RenderingError(source), Not(StartsWith("rendered"))) << source.substr(0, 40);
  }
  // What does not nest may be long.
  EXPECT_EQ(Rendered("{{ 'a'" + Repeated(" ~ 'a'", kDeep) + " }}").size(), kDeep + 1U);
  EXPECT_EQ(Rendered("{% if 0 %}" + Repeated("{% elif 0 %}", kDeep) + "{% else %}x{% endif %}"),
            "x");
}

TEST(HostileTemplates, LongStringsAreRefused) {
  EXPECT_THAT(SmallError("{{ 'a' * 10 ** 12 }}"), HasSubstr("a string of more than"));
  EXPECT_THAT(SmallError("{{ 'ab' * 9223372036854775807 }}"), HasSubstr("more than"));
  EXPECT_THAT(SmallError("{% set ns = namespace(s='a') %}{% for i in range(99) %}"
                         "{% set ns.s = ns.s + ns.s %}{% endfor %}"),
              HasSubstr("a string of more than"));
  EXPECT_THAT(SmallError("{{ [0] * 10 ** 12 }}"), HasSubstr("the template"));
  EXPECT_THAT(SmallError("{{ ('a' * 1000000) | replace('', 'b' * 1000000) }}"),
              HasSubstr("more than"));
  EXPECT_THAT(SmallError("{{ '%999999999d' % 1 }}"), HasSubstr("too wide"));
  EXPECT_THAT(SmallError("{{ '{:999999999}'.format(1) }}"), HasSubstr("too wide"));
  EXPECT_THAT(SmallError("{{ [[[1]]] | tojson(indent=10 ** 9) }}"), HasSubstr("more than"));
  EXPECT_THAT(SmallError("{{ [1] | batch(10 ** 12, 'x') }}"), HasSubstr("the template"));
  EXPECT_THAT(SmallError("{{ [1] | slice(10 ** 12) }}"), HasSubstr("the template"));
  EXPECT_THAT(SmallError("{% for i in range(100000) %}{{ 'a' * 100000 }}{% endfor %}"),
              HasSubstr("the template"));
  // Lists that hold each other twice double with every level when they are printed.
  EXPECT_THAT(SmallError("{% set ns = namespace(l=[1]) %}{% for i in range(60) %}"
                         "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}"),
              HasSubstr("the template"));
  EXPECT_THAT(SmallError("{% set ns = namespace(l=[]) %}{% for i in range(1000) %}"
                         "{% set ns.l = ns.l + ['a' * 100000] %}{% endfor %}"),
              HasSubstr("the template's values take more than"));
}

TEST(HostileTemplates, SearchingTakesLinearTime) {
  EXPECT_THAT(RenderingError("{{ ('a' * 5000000 + 'b') in 'a' * 10000000 }}"), HasSubstr("False"));
  EXPECT_THAT(RenderingError("{{ ('a' * 10000000).rfind('b' + 'a' * 5000000) }}"), HasSubstr("-1"));
}

TEST(HostileTemplates, EveryTruncationIsRefusedOrRendered) {
  const std::filesystem::path folder =
      std::filesystem::path(THERMOCLINE_SOURCE_DIR) / "tests/golden/chat_templates/templates";
  const nlohmann::ordered_json variables = {{"messages", {{{"role", "user"}, {"content", "Hi"}}}},
                                            {"bos_token", "<s>"}};
  int n_templates = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    const std::string source = text.str();
    ASSERT_FALSE(source.empty());
    for (size_t n_bytes = 0; n_bytes < source.size(); ++n_bytes) {
      (void)RenderingError(source.substr(0, n_bytes), variables);
    }
    ++n_templates;
  }
  EXPECT_EQ(n_templates, 10);
}

TEST(HostileTemplates, BytesThatAreNoUtf8) {
  EXPECT_EQ(Rendered("\xff{{ '\xff\x80' | length }}{{ '\xc3' | upper }}"),
            "\xff"
            "2\xc3");
  EXPECT_EQ(Rendered("{{ '\xe2\x82' | tojson }}{{ ['\xff'] }}"), "\"\xe2\x82\"['\xff']");
}

TEST(HostileTemplates, DeepInputIsRefused) {
  const auto deep = nlohmann::ordered_json::parse("{\"messages\": " + Repeated("[", 5000) +
                                                  Repeated("]", 5000) + "}");
  EXPECT_THAT(RenderingError("{{ messages }}", deep), HasSubstr("levels deep"));
}

}  // namespace
}  // namespace thermocline
