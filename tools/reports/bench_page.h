// The page of `bench --report`: the modes beside each other, with quality beside speed.
#pragma once

#include "tools/pictures/html_page.h"
#include "tools/reports/bench_report.h"

namespace thermocline {

HtmlPage BenchPage(const BenchReport& report);

}  // namespace thermocline
