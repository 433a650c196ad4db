using System.Collections.Concurrent;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Shop;

internal sealed record Charge(Guid OrderId, int Cents);

internal enum FaultMode
{
    Healthy,

    /// <summary>Charges, and answers <see cref="Fault.DelayMs"/> later.</summary>
    Slow,

    /// <summary>Answers 500 and charges nothing.</summary>
    Failing,

    /// <summary>Charges, and never answers.</summary>
    Hanging,
}

/// <summary>What payments is told to do wrong, and with which share of the calls.</summary>
internal sealed record Fault(FaultMode? Mode, double Ratio = 1, int DelayMs = 300)
{
    public Dictionary<string, string[]> Problems()
    {
        var problems = new Dictionary<string, string[]>();
        if (Mode is null || !Enum.IsDefined(Mode.Value))
        {
            problems["mode"] = ["mode must be healthy, slow, failing or hanging."];
        }

        if (Ratio is not (>= 0 and <= 1))
        {
            problems["ratio"] = [$"ratio must be between 0 and 1, but is {Ratio}."];
        }

        if (DelayMs is < 0 or > 60_000)
        {
            problems["delayMs"] = [$"delayMs must be between 0 and 60000, but is {DelayMs}."];
        }

        return problems;
    }
}

/// <summary>How often payments was called, and how many orders it has charged.</summary>
internal sealed record ChargeCount(int Calls, int Charged);

/// <summary>
/// The payments service: an application of its own, on a free loopback port. It starts before the shop listens, and stops after the shop's last request.
/// </summary>
internal sealed class PaymentsService : IHostedService, IAsyncDisposable
{
    private const int CardLimitCents = 100_000;

    private readonly WebApplication _app;
    private readonly ConcurrentDictionary<Guid, Charge> _charges = new();
    private Fault _fault = new(FaultMode.Healthy);
    private int _calls;

    public PaymentsService()
    {
        // Empty: the shop's configuration, --urls above all, is not for this one.
        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().UseUrls("http://127.0.0.1:0");
        builder.Services.AddRouting().AddProblemDetails();
        builder.Services.ConfigureHttpJsonOptions(json => json.SerializerOptions.Converters.Add(new JsonStringEnumConverter(JsonNamingPolicy.CamelCase, allowIntegerValues: false)));

        _app = builder.Build();
        _app.UseStatusCodePages();
        _app.MapPost("/charges", ChargeAsync);
        _app.MapGet("/charges", () => new ChargeCount(Volatile.Read(ref _calls), _charges.Count));
        _app.MapGet("/faults", () => Volatile.Read(ref _fault));
        _app.MapPost("/faults", (Fault fault) =>
        {
            if (fault.Problems() is { Count: > 0 } problems)
            {
                return Results.ValidationProblem(problems);
            }

            Volatile.Write(ref _fault, fault);
            return Results.Ok(fault);
        });
    }

    /// <summary>Known once it has started.</summary>
    public string Address => _app.Urls.First();

    public Task StartAsync(CancellationToken cancellationToken) => _app.StartAsync(cancellationToken);

    public Task StopAsync(CancellationToken cancellationToken) => _app.StopAsync(cancellationToken);

    public ValueTask DisposeAsync() => _app.DisposeAsync();

    private async Task<IResult> ChargeAsync(Charge charge, CancellationToken hungUp)
    {
        Interlocked.Increment(ref _calls);
        Fault fault = Volatile.Read(ref _fault);
        FaultMode mode = Random.Shared.NextDouble() < fault.Ratio ? fault.Mode!.Value : FaultMode.Healthy;
        if (mode == FaultMode.Failing)
        {
            return Results.Problem("Told to fail.");
        }

        if (charge.Cents > CardLimitCents)
        {
            return Results.Problem(statusCode: StatusCodes.Status402PaymentRequired, title: "Over the limit of the card.");
        }

        // Charged first: that is why an answer that is lost on the way is followed by a second attempt for the same order, and why there is one entry per order.
        charge = _charges.GetOrAdd(charge.OrderId, charge);
        if (mode != FaultMode.Healthy)
        {
            await Task.Delay(mode == FaultMode.Slow ? fault.DelayMs : Timeout.Infinite, hungUp);
        }

        return Results.Ok(charge);
    }
}
