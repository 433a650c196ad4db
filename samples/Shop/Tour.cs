using System.Runtime.InteropServices;

namespace Shop;

/// <summary>How much of each incident is played.</summary>
internal sealed record TourSize(TourLoad Load, TimeSpan Overload, int Webhooks)
{
    public static TourSize Whole { get; } = new(new TourLoad(Users: 20, OrdersEach: 8, Pace: TimeSpan.FromMilliseconds(250)), TimeSpan.FromSeconds(8), Webhooks: 6);
}

/// <summary>
/// Plays incident after incident, with the toolkit and without, and prints one table. All over HTTP on this machine; all that is printed was measured.
/// </summary>
internal static class Tour
{
    private static readonly TimeSpan Most = TimeSpan.FromMinutes(4);

    /// <summary>On the console, until it is over or told to stop.</summary>
    /// <exception cref="OperationCanceledException">Told to stop.</exception>
    public static async Task RunAsync(TourOptions options)
    {
        using var told = new CancellationTokenSource();
        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop), end = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(told.Token);
        limit.CancelAfter(Most);
        using Progress progress = Progress.OfConsole();
        try
        {
            await RunAsync(options, progress, TourSize.Whole, limit.Token);
        }
        catch (Exception) when (told.IsCancellationRequested)
        {
            // Whatever was cut off first, and how.
            throw new OperationCanceledException(told.Token);
        }
        catch (OperationCanceledException) when (limit.IsCancellationRequested)
        {
            throw new TimeoutException($"The tour did not end within {Most.TotalMinutes} minutes: the machine has too much else to do.");
        }

        void Stop(PosixSignalContext signal)
        {
            signal.Cancel = true;
            told.Cancel();
        }
    }

    /// <param name="options">Checked before anything is played.</param>
    /// <param name="progress">Gets what happens, and the table.</param>
    /// <param name="size">How much is played.</param>
    /// <param name="stopping">Ends it.</param>
    /// <exception cref="InvalidOperationException">An incident that was asked for could not be played; the table has the others.</exception>
    public static async Task RunAsync(TourOptions options, Progress progress, TourSize size, CancellationToken stopping)
    {
        if (options.Markdown is not null)
        {
            CheckWritable(options.Markdown);
        }

        if (options.Redis is not null)
        {
            await SharedLimit.CheckAsync(options.Redis, stopping);
        }

        progress.Say("Incident after incident, with the toolkit and without. It takes about a minute and a half; Ctrl-C ends it.");
        List<Incident> incidents =
        [
            .. await Outage.PlayAsync(progress, size.Load, stopping),
            await Overload.PlayAsync(progress, size.Overload, stopping),
            .. await Chain.PlayAsync(progress, stopping),
            await HangUp.PlayAsync(progress, stopping),
            await DeadEndpoint.PlayAsync(progress, size.Webhooks, stopping),
        ];
        List<string> notes = [];
        string command = "dotnet run --project samples/Shop -- --tour";
        bool isWhole = true;
        if (options.Redis is null)
        {
            notes.Add("Not played: one limit over two shops. It needs a Redis: --redis localhost:6379");
        }
        else
        {
            command += " --redis CONNECTION"; // which may hold a password
            if (await SharedLimit.PlayAsync(progress, options.Redis, stopping) is { } shared)
            {
                incidents.Add(shared);
            }
            else
            {
                isWhole = false;
                notes.Add("Not played: one limit over two shops. Redis does not answer.");
            }
        }

        var summary = new Summary(incidents, notes);
        progress.Say(summary.Text(progress.Width));
        if (options.Markdown is not null)
        {
            await File.WriteAllTextAsync(options.Markdown, summary.Markdown(command, TimeProvider.System.GetUtcNow()), CancellationToken.None);
            progress.Say($"Written to {options.Markdown}.");
        }

        if (!isWhole)
        {
            throw new InvalidOperationException("One limit over two shops was asked for, but could not be played: Redis, which answered when the tour began, does not answer. Start it, and the tour again.");
        }
    }

    /// <summary>Fails now where writing would fail later; leaves nothing.</summary>
    private static void CheckWritable(string file)
    {
        try
        {
            bool isThere = File.Exists(file);
            using var probe = new FileStream(file, isThere ? FileMode.Open : FileMode.CreateNew, FileAccess.Write, FileShare.ReadWrite, 1, isThere ? FileOptions.None : FileOptions.DeleteOnClose);
        }
        catch (Exception refused) when (refused is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw new ArgumentException($"--markdown must name a file that can be written, but {file} cannot: {refused.Message}", refused);
        }
    }
}
