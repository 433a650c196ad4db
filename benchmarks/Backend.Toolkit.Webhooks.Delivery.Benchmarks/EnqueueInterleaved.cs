using System.Globalization;

/// <summary>The two enqueues in turn, one of each, so that what else the machine does meets both: the medians, and their ratio, of five rounds.</summary>
internal static class EnqueueInterleaved
{
    private const int Pairs = 1500;

    public static async Task<int> RunAsync()
    {
        Console.WriteLine("| database | by hand, median µs | EnqueueAsync, median µs | ratio of medians |");
        Console.WriteLine("|---|---|---|---|");
        foreach (string database in new[] { "SQLite", "PostgreSQL" })
        {
            var benchmarks = new EnqueueBenchmarks { Database = database };
            await benchmarks.SetupAsync();
            for (int round = 0; round < 6; round++)
            {
                double[] hand = new double[Pairs];
                double[] ours = new double[Pairs];
                for (int i = 0; i < Pairs; i++)
                {
                    long begun = TimeProvider.System.GetTimestamp();
                    await benchmarks.InsertAsync();
                    long between = TimeProvider.System.GetTimestamp();
                    await benchmarks.EnqueueAsync();
                    hand[i] = TimeProvider.System.GetElapsedTime(begun, between).TotalMicroseconds;
                    ours[i] = TimeProvider.System.GetElapsedTime(between).TotalMicroseconds;
                }

                // The first round warms up.
                if (round > 0)
                {
                    Array.Sort(hand);
                    Array.Sort(ours);
                    Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"| {database} | {hand[Pairs / 2]:0} | {ours[Pairs / 2]:0} | {ours[Pairs / 2] / hand[Pairs / 2]:0.00} |"));
                }
            }

            await benchmarks.CleanupAsync();
        }

        return 0;
    }
}
