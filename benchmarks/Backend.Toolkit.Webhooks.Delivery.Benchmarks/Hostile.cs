using System.Diagnostics;
using System.Globalization;

/// <summary>
/// Events so that deliveries to a hundred and twenty endpoints are half of a given rate; twenty endpoints are well, and a hundred hostile ones are beside them or not, all in processes of their own: what those that are well
/// get, their delays, and the working set of the sender.
/// </summary>
internal static class Hostile
{
    private const int HostileEndpoints = 100;

    public static async Task<int> RunAsync(string[] args)
    {
        bool dry = args.Contains("--dry");
        double rate = double.Parse(args.FirstOrDefault(arg => arg.StartsWith("--rate=", StringComparison.Ordinal))?[7..] ?? "200", CultureInfo.InvariantCulture);
        int runs = dry ? 1 : 5;
        int seconds = dry ? 1 : 10;
        string[] databases = dry || args.Contains("--sqlite") ? ["SQLite"] : ["PostgreSQL"];
        Console.WriteLine("| database | hostile | deliveries a second | median ms | p99 ms | working set MB |");
        Console.WriteLine("|---|---|---|---|---|---|");
        foreach (string database in databases)
        {
            foreach (int hostile in new[] { 0, HostileEndpoints })
            {
                for (int run = 0; run < runs; run++)
                {
                    Console.WriteLine(await RunAsync(database, hostile, rate, seconds));
                }
            }
        }

        return 0;
    }

    private static async Task<string> RunAsync(string database, int hostile, double rate, int seconds)
    {
        await using Bench bench = await Bench.CreateAsync(database);
        using Child server = await Child.StartAsync("hostile");
        string[] ports = server.Line.Split(' ');
        for (int i = 0; i < hostile; i++)
        {
            await bench.Admin.CreateAsync("acme", $"http://127.0.0.1:{ports[i % ports.Length]}/", ["order.created"]);
        }

        await bench.StartAsync();
        int events = (int)(rate / 2 / (Bench.Endpoints + HostileEndpoints) * seconds);
        long begun = TimeProvider.System.GetTimestamp();
        for (int i = 0; i < events; i++)
        {
            TimeSpan due = TimeSpan.FromSeconds((double)i * seconds / events) - TimeProvider.System.GetElapsedTime(begun);
            if (due > TimeSpan.Zero)
            {
                await Task.Delay(due);
            }

            await bench.EnqueueAsync();
        }

        double[] report = await bench.ReportAsync(events * Bench.Endpoints);
        using Process process = Process.GetCurrentProcess();
        return string.Create(CultureInfo.InvariantCulture, $"| {database} | {hostile} | {report[0] / report[2]:0} | {report[3]:0} | {report[4]:0} | {process.WorkingSet64 / 1048576.0:0} |");
    }
}
