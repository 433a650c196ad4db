using System.Globalization;

/// <summary>How many deliveries a second arrive and are verified, out of a backlog: one worker, twenty endpoints, a receiver in another process on the same machine.</summary>
internal static class Throughput
{
    public static async Task<int> RunAsync(string[] args)
    {
        int events = args.Contains("--dry") ? 20 : 500;
        int runs = args.Contains("--dry") ? 1 : 5;
        Console.WriteLine("| database | runs | deliveries each | verified a second: least, median, most | invalid |");
        Console.WriteLine("|---|---|---|---|---|");
        foreach (string database in new[] { "SQLite", "PostgreSQL" })
        {
            var rates = new List<double>();
            double invalid = 0;
            for (int run = 0; run < runs; run++)
            {
                await using Bench bench = await Bench.CreateAsync(database);
                for (int i = 0; i < events; i++)
                {
                    await bench.EnqueueAsync();
                }

                await bench.StartAsync();
                double[] report = await bench.ReportAsync(events * Bench.Endpoints);
                rates.Add(report[0] / report[2]);
                invalid += report[1];
            }

            rates.Sort();
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"| {database} | {runs} | {events * Bench.Endpoints} | {rates[0]:0}, {rates[runs / 2]:0}, {rates[^1]:0} | {invalid} |"));
        }

        return 0;
    }
}
