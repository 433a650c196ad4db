using System.Text.Json;
using Backend.Toolkit.CircuitBreakers;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Options;

// Real files and real time: workers that share two cores with each other would be slow for no reason of their own.
[assembly: Xunit.v3.Parallelization(Mode = Xunit.Sdk.ParallelMode.None)]

namespace Worker.Tests;

/// <summary>A worker in this process, on the files of a folder.</summary>
internal sealed class RunningWorker : IAsyncDisposable
{
    private readonly IHost _host;
    private int _openings;

    public RunningWorker(string folder, params string[] settings)
    {
        Provider = new SmsProvider(Path.Combine(folder, "provider.db"), TimeProvider.System);
        _host = WorkerApplication.CreateBuilder(Path.Combine(folder, "worker.db"), Provider, ["--Logging:LogLevel:Default=None", .. settings]).Build();
        _host.Services.GetRequiredKeyedService<CircuitBreaker>("sms").StateChanged += (_, change) => Interlocked.Add(ref _openings, change.Current == CircuitState.Open ? 1 : 0);
    }

    public SmsProvider Provider { get; }

    public MessageQueue Queue => _host.Services.GetRequiredService<MessageQueue>();

    public Sender Sender => _host.Services.GetRequiredService<Sender>();

    public Consumer Consumer => _host.Services.GetRequiredService<Consumer>();

    public CircuitBreakerOptions Circuit => _host.Services.GetRequiredService<IOptionsMonitor<CircuitBreakerOptions>>().Get("sms");

    public int Openings => _openings;

    public static Reminder[] Reminders(int count) => [.. Enumerable.Range(1, count).Select(i => new Reminder($"+{i}", $"Text {i}"))];

    public Task StartAsync() => _host.StartAsync();

    public Task StopAsync() => _host.StopAsync();

    public Task PublishAsync(params Reminder[] reminders) =>
        Queue.PublishAsync(reminders.Select(reminder => ($"message {reminder.Number}", JsonSerializer.SerializeToUtf8Bytes(reminder, WorkerJson.Default.Reminder))));

    public Task UntilEmptyAsync() => RealTime.UntilAsync(async () => await Queue.CountAsync() == 0, "the queue is empty");

    public async ValueTask DisposeAsync()
    {
        await _host.StopAsync();
        await ((IAsyncDisposable)_host).DisposeAsync();
    }
}
