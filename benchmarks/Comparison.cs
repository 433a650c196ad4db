using System.Globalization;
using BenchmarkDotNet.Columns;
using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Diagnosers;
using BenchmarkDotNet.Exporters;
using BenchmarkDotNet.Jobs;
using BenchmarkDotNet.Loggers;
using BenchmarkDotNet.Order;
using BenchmarkDotNet.Reports;
using BenchmarkDotNet.Running;
using BenchmarkDotNet.Toolchains.InProcess.Emit;

/// <summary>
/// How every benchmark here is run: in one process, many short iterations, and the ratio of the <b>best</b> iterations beside the baseline's
/// of the same class, category and parameters, since on a shared machine only the best run is undisturbed. <c>--dry</c> runs everything once.
/// </summary>
internal static class Comparison
{
    /// <summary>The description of a benchmark that is the floor of its group: the others of the group then also show what they cost over it.</summary>
    public const string Floor = "bare";

    public static int Run(string[] args)
    {
        bool dry = args.Contains("--dry");
        Job job = dry
            ? Job.Dry.WithToolchain(InProcessEmitToolchain.Instance)
            : Job.Default.WithToolchain(InProcessEmitToolchain.Instance)
                .WithWarmupCount(6).WithIterationCount(30).WithIterationTime(Perfolizer.Horology.TimeInterval.FromMilliseconds(120));

        ManualConfig config = ManualConfig.CreateEmpty()
            .AddJob(job)
            .AddLogger(ConsoleLogger.Default)
            .AddColumn(TargetMethodColumn.Method, CategoriesColumn.Default, StatisticColumn.Min, StatisticColumn.Median, new RatioOfBest(), new RatioOverFloor())
            .AddColumnProvider(DefaultColumnProviders.Params, DefaultColumnProviders.Metrics)
            .AddDiagnoser(MemoryDiagnoser.Default)
            .AddExporter(MarkdownExporter.GitHub)
            .WithOrderer(new DefaultOrderer(SummaryOrderPolicy.Declared))
            .AddLogicalGroupRules(BenchmarkLogicalGroupRule.ByCategory, BenchmarkLogicalGroupRule.ByParams)
            .WithOptions(ConfigOptions.DisableLogFile);

        IEnumerable<Summary> summaries = BenchmarkSwitcher.FromAssembly(typeof(Comparison).Assembly)
            .Run([.. args.Where(arg => arg != "--dry"), .. args.Contains("--filter") ? Array.Empty<string>() : ["--filter", "*"]], config);
        bool failed = !summaries.Any() || summaries.Any(summary => summary.HasCriticalValidationErrors || summary.Reports.Any(report => !report.Success));
        return failed ? 1 : 0;
    }

    /// <summary>The fastest iteration divided by the fastest iteration of the baseline.</summary>
    private sealed class RatioOfBest : IColumn
    {
        public string Id => nameof(RatioOfBest);

        public string ColumnName => "Ratio of best";

        public string Legend => "Fastest iteration ÷ fastest iteration of the baseline";

        public bool AlwaysShow => true;

        public ColumnCategory Category => ColumnCategory.Baseline;

        public int PriorityInCategory => 0;

        public bool IsNumeric => true;

        public UnitType UnitType => UnitType.Dimensionless;

        public bool IsAvailable(Summary summary) => true;

        public bool IsDefault(Summary summary, BenchmarkCase benchmarkCase) => false;

        public string GetValue(Summary summary, BenchmarkCase benchmarkCase, SummaryStyle style) => GetValue(summary, benchmarkCase);

        public string GetValue(Summary summary, BenchmarkCase benchmarkCase)
        {
            string? group = summary.GetLogicalGroupKey(benchmarkCase);
            BenchmarkCase? baseline = summary.GetBenchmarksCases(group).FirstOrDefault(other => other.Descriptor.Baseline);
            double? own = summary[benchmarkCase]?.ResultStatistics?.Min;
            double? other = baseline is null ? null : summary[baseline]?.ResultStatistics?.Min;
            return own is null || other is null ? "?" : (own.Value / other.Value).ToString("0.000", CultureInfo.InvariantCulture);
        }
    }

    /// <summary>What the fastest iteration costs over the floor, divided by what the baseline's costs over it.</summary>
    private sealed class RatioOverFloor : IColumn
    {
        public string Id => nameof(RatioOverFloor);

        public string ColumnName => "Ratio over bare";

        public string Legend => "(Fastest iteration - bare) ÷ (fastest iteration of the baseline - bare)";

        public bool AlwaysShow => false;

        public ColumnCategory Category => ColumnCategory.Baseline;

        public int PriorityInCategory => 1;

        public bool IsNumeric => true;

        public UnitType UnitType => UnitType.Dimensionless;

        public bool IsAvailable(Summary summary) => summary.BenchmarksCases.Any(IsFloor);

        public bool IsDefault(Summary summary, BenchmarkCase benchmarkCase) => false;

        public string GetValue(Summary summary, BenchmarkCase benchmarkCase, SummaryStyle style) => GetValue(summary, benchmarkCase);

        public string GetValue(Summary summary, BenchmarkCase benchmarkCase)
        {
            BenchmarkCase[] group = [.. summary.GetBenchmarksCases(summary.GetLogicalGroupKey(benchmarkCase))];
            double? own = Min(benchmarkCase), floor = Min(group.FirstOrDefault(IsFloor)), other = Min(group.FirstOrDefault(one => one.Descriptor.Baseline));
            return own is null || floor is null || other is null ? "?" : ((own.Value - floor.Value) / (other.Value - floor.Value)).ToString("0.000", CultureInfo.InvariantCulture);

            double? Min(BenchmarkCase? one) => one is null ? null : summary[one]?.ResultStatistics?.Min;
        }

        private static bool IsFloor(BenchmarkCase benchmarkCase) => benchmarkCase.Descriptor.WorkloadMethodDisplayInfo.Trim('\'') == Floor;
    }

    private static IEnumerable<BenchmarkCase> GetBenchmarksCases(this Summary summary, string? group) =>
        summary.BenchmarksCases.Where(benchmarkCase => summary.GetLogicalGroupKey(benchmarkCase) == group);
}

/// <summary>Runs a loop on two threads that stay alive between calls, so that a benchmark measures the loop and not the start of threads.</summary>
internal sealed class TwoThreads : IDisposable
{
    private readonly Barrier _barrier = new(2);
    private readonly Thread _second;
    private volatile Action? _loop;

    public TwoThreads()
    {
        _second = new Thread(() =>
        {
            while (true)
            {
                _barrier.SignalAndWait();
                if (_loop is null)
                {
                    return;
                }

                _loop();
                _barrier.SignalAndWait();
            }
        })
        { IsBackground = true };
        _second.Start();
    }

    /// <summary>Returns when both threads have run the loop once.</summary>
    public void Run(Action loop)
    {
        _loop = loop;
        _barrier.SignalAndWait();
        loop();
        _barrier.SignalAndWait();
    }

    public void Dispose()
    {
        _loop = null;
        _barrier.SignalAndWait();
        _second.Join();
        _barrier.Dispose();
    }
}
