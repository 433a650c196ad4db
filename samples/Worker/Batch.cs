using System.Globalization;
using System.Text.Json;
using Backend.Toolkit.CircuitBreakers;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace Worker;

/// <param name="Reminders">How many a batch has.</param>
/// <param name="Incident">How long the provider is in trouble, each time.</param>
/// <param name="Forever">Whether a batch follows a batch.</param>
/// <param name="Output">Where to say what came of it.</param>
internal sealed record BatchOptions(int Reminders, TimeSpan Incident, bool Forever, TextWriter Output);

/// <summary>
/// Publishes reminders the way publishers do, some of them twice; troubles the provider while they are sent; and counts, when all is done, what people have got.
/// Then it stops the worker.
/// </summary>
internal sealed class Batch(
    BatchOptions options, MessageQueue queue, SmsProvider provider, Consumer consumer, [FromKeyedServices("sms")] CircuitBreaker breaker,
    IHostApplicationLifetime lifetime, TimeProvider time) : BackgroundService
{
    private static readonly (Fault Fault, string Title)[] Incidents =
        [(Fault.Failing, "fails"), (Fault.Hanging, "hangs"), (Fault.Silent, "sends, and does not answer")];

    private static readonly TimeSpan Glance = TimeSpan.FromMilliseconds(50);

    private int _openings;

    /// <summary>0 when the last batch is done, or was stopped, and nothing was lost, sent twice, or asked of the provider too often.</summary>
    public int ExitCode { get; private set; } = 1;

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        breaker.StateChanged += (_, change) => Interlocked.Add(ref _openings, change.Current == CircuitState.Open ? 1 : 0);
        long leftFromBefore = await queue.CountAsync();
        if (leftFromBefore > 0)
        {
            await SayAsync($"{leftFromBefore} messages are left from the last run.");
        }

        try
        {
            do
            {
                await RunAsync(stoppingToken);
            }
            while (options.Forever && ExitCode == 0);
        }
        catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
        {
            ExitCode = 0;
            await SayAsync($"Stopped. {await queue.CountAsync()} messages are in the queue or in hand; nothing is lost.");
        }

        lifetime.StopApplication();
    }

    private async Task RunAsync(CancellationToken stopping)
    {
        string name = Guid.NewGuid().ToString("N")[..8];
        Reminder[] reminders = [.. Enumerable.Range(1, options.Reminders).Select(i => new Reminder($"+49 30 {i:0000}", $"Your appointment is tomorrow. ({name}-{i})"))];
        (string Id, byte[] Body)[] messages = [.. reminders.Select((reminder, i) => ($"{name}-{i + 1}", Body(reminder)))];
        (string Id, byte[] Body)[] twice = [.. messages.Where((_, i) => i % 5 == 0)];
        (string Id, byte[] Body)[] hopeless = [($"{name}-text", Body(new Reminder("+49 30 0", "\0"))), ($"{name}-number", Body(new Reminder("none", "Hello")))];
        (string Id, byte[] Body)[] all = [.. messages, .. twice, .. hopeless];
        Random.Shared.Shuffle(all);
        int busyBefore = provider.Throttled;
        await queue.PublishAsync(all);
        await SayAsync($"{messages.Length} reminders are published, {twice.Length} of them twice; one more has a text that the provider cannot cope with, one a number that is none.");

        await SayAsync($"");
        await SayAsync($"for {options.Incident.TotalSeconds:0.#} s, the provider           calls  openings  given back  failed  repeats");
        await WaitAsync(options.Incident / 2, stopping);
        foreach ((Fault fault, string title) in Incidents)
        {
            Counts before = Now;
            provider.Fault = fault;
            await WaitAsync(options.Incident, stopping);
            provider.Fault = Fault.None;
            while (breaker.State != CircuitState.Closed)
            {
                await WaitAsync(Glance, stopping);
            }

            await WaitAsync(options.Incident / 2, stopping);
            Counts now = Now;
            await SayAsync($"{title,-34}{now.Calls - before.Calls,6}{now.Openings - before.Openings,10}{now.GivenBack - before.GivenBack,12}{now.Failed - before.Failed,8}{now.Repeats - before.Repeats,9}");
        }

        while (await queue.CountAsync() > 0)
        {
            await WaitAsync(Glance, stopping);
        }

        await SayAsync($"");
        List<Reminder> sent = await provider.SentAsync();
        DeadLetter[] dead = [.. (await queue.DeadLettersAsync()).Where(letter => letter.Id.StartsWith(name, StringComparison.Ordinal))];
        int lost = reminders.Except(sent).Count(), again = sent.Count - sent.Distinct().Count(), throttled = provider.Throttled - busyBefore;
        await SayAsync($"Sent:            {reminders.Length - lost} of {reminders.Length}, {again} of them more than once");
        await SayAsync($"At the provider: at most {provider.Busiest} calls in any second of the {SmsProvider.CallsPerSecond} that it allows, {throttled} too many");
        await SayAsync($"Dead letters:    {dead.Length}");
        foreach (DeadLetter letter in dead)
        {
            await SayAsync($"                 {letter.Id}: {letter.Reason}");
        }

        ExitCode = lost == 0 && again == 0 && throttled == 0 && dead.Length == hopeless.Length ? 0 : 1;
    }

    private Counts Now => new(provider.Calls, _openings, consumer.GivenBack, consumer.Failed, provider.Repeats);

    private static byte[] Body(Reminder reminder) => JsonSerializer.SerializeToUtf8Bytes(reminder, WorkerJson.Default.Reminder);

    private Task WaitAsync(TimeSpan delay, CancellationToken stopping) => Task.Delay(delay, time, stopping);

    private Task SayAsync(FormattableString text) => options.Output.WriteLineAsync(text.ToString(CultureInfo.InvariantCulture));

    /// <param name="Calls">At the provider.</param>
    /// <param name="Openings">Of the circuit.</param>
    /// <param name="GivenBack">Messages, without a count against them.</param>
    /// <param name="Failed">Deliveries that counted.</param>
    /// <param name="Repeats">Calls for what the provider had sent.</param>
    private readonly record struct Counts(int Calls, int Openings, int GivenBack, int Failed, int Repeats);
}
