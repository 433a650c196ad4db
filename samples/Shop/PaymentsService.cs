using System.ComponentModel.DataAnnotations;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;
using Backend.Toolkit.Webhooks.Delivery;
using Backend.Toolkit.Webhooks.Delivery.Sqlite;
using Microsoft.AspNetCore.Mvc;
using Microsoft.Data.Sqlite;

namespace Shop;

internal sealed record Charge(Guid OrderId, int Cents);

internal enum FaultMode
{
    // No number is the sum of others: JSON may have a list of names, which stands for their sum.
    Healthy = 1,

    /// <summary>Charges, and answers <see cref="Fault.DelayMs"/> later.</summary>
    Slow = 2,

    /// <summary>Answers 500 and charges nothing.</summary>
    Failing = 4,

    /// <summary>Charges, and never answers.</summary>
    Hanging = 8,
}

/// <summary>What payments is told to do wrong, and with which share of the calls.</summary>
internal sealed record Fault(FaultMode Mode, [property: Range(0d, 1d)] double Ratio = 1, [property: Range(0, 60_000)] int DelayMs = 300)
{
    public Dictionary<string, string[]> Problems()
    {
        var problems = new Dictionary<string, string[]>();
        if (!Enum.IsDefined(Mode))
        {
            problems["mode"] = ["mode must be healthy, slow, failing or hanging."];
        }

        if (Ratio is not (>= 0 and <= 1))
        {
            problems["ratio"] = [string.Create(CultureInfo.InvariantCulture, $"ratio must be between 0 and 1, but is {Ratio}.")];
        }

        if (DelayMs is < 0 or > 60_000)
        {
            problems["delayMs"] = [string.Create(CultureInfo.InvariantCulture, $"delayMs must be between 0 and 60000, but is {DelayMs}.")];
        }

        return problems;
    }
}

/// <summary>How often payments was called, and how many orders it has charged.</summary>
internal sealed record ChargeCount(int Calls, int Charged);

/// <summary>
/// The payments service: an application of its own, with a database of its own. In the process of a shop it starts before the shop listens, and stops after the shop's last request.
/// </summary>
internal sealed class PaymentsService : IHostedService, IAsyncDisposable
{
    public const string Audience = "shop";

    /// <summary>Where a shop is told of charges.</summary>
    public const string ShopHook = "/webhooks/payments";

    private const int CardLimitCents = 100_000;

    private readonly WebApplication _app;
    private readonly string _connectionString;
    private Fault _fault = new(FaultMode.Healthy);
    private int _calls;

    /// <param name="folder">Where charges.db is.</param>
    /// <param name="delivery">How webhooks are sent.</param>
    /// <param name="urls">Where it listens.</param>
    public PaymentsService(string folder, Action<WebhookDeliveryOptions> delivery, string urls = "http://127.0.0.1:0")
    {
        _connectionString = new SqliteConnectionStringBuilder { DataSource = Path.Combine(folder, "charges.db") }.ToString();
        using (SqliteConnection connection = ShopDatabase.Open(_connectionString))
        using (SqliteCommand command = connection.CreateCommand())
        {
            command.CommandText = """
                PRAGMA journal_mode = WAL;
                CREATE TABLE IF NOT EXISTS charges (key TEXT NOT NULL PRIMARY KEY, order_id TEXT NOT NULL, cents INTEGER NOT NULL);
                """;
            command.ExecuteNonQuery();
        }

        // Empty: the shop's configuration, --urls above all, is not for this one.
        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().UseUrls(urls);
        builder.Services.AddRouting().AddProblemDetails();
        builder.Services.AddSqliteWebhookDeliveryStore(o => o.ConnectionString = _connectionString);
        builder.Services.AddWebhookDelivery(delivery);
        builder.Services.ConfigureHttpJsonOptions(json => json.SerializerOptions.Converters.Add(new JsonStringEnumConverter(JsonNamingPolicy.CamelCase, allowIntegerValues: false)));

        _app = builder.Build();
        _app.UseStatusCodePages();
        _app.MapPost("/charges", ChargeAsync);
        _app.MapGet("/charges", () => new ChargeCount(Volatile.Read(ref _calls), Count()));
        _app.MapGet("/faults", () => Volatile.Read(ref _fault));
        _app.MapPost("/faults", (Fault fault) =>
        {
            if (fault.Problems() is { Count: > 0 } problems)
            {
                return Results.ValidationProblem(problems);
            }

            Volatile.Write(ref _fault, fault);
            return Results.Ok(fault);
        }).AddEndpointFilter(FromHere.OnlyAsync);
    }

    /// <summary>Who is told of charges.</summary>
    public WebhookEndpoints Endpoints => _app.Services.GetRequiredService<WebhookEndpoints>();

    /// <summary>Known once it has started.</summary>
    public string Address => _app.Urls.First();

    public Task StartAsync(CancellationToken cancellationToken) => _app.StartAsync(cancellationToken);

    public Task StopAsync(CancellationToken cancellationToken) => _app.StopAsync(cancellationToken);

    public Task WaitForShutdownAsync() => _app.WaitForShutdownAsync();

    public ValueTask DisposeAsync() => _app.DisposeAsync();

    private async Task<IResult> ChargeAsync(Charge charge, [FromHeader(Name = "Idempotency-Key")] string? key, CancellationToken hungUp)
    {
        Interlocked.Increment(ref _calls);
        Fault fault = Volatile.Read(ref _fault);
        FaultMode mode = Random.Shared.NextDouble() < fault.Ratio ? fault.Mode : FaultMode.Healthy;
        if (mode == FaultMode.Failing)
        {
            return Results.Problem("Told to fail.");
        }

        if (string.IsNullOrEmpty(key) || key.Length > 100)
        {
            return Results.Problem(statusCode: StatusCodes.Status400BadRequest, title: "A charge needs an Idempotency-Key of 1 to 100 characters.");
        }

        if (charge.Cents > CardLimitCents)
        {
            return Results.Problem(statusCode: StatusCodes.Status402PaymentRequired, title: "Over the limit of the card.");
        }

        // Charged first: that is why an answer that is lost on the way is followed by a second attempt for the same order, and why a key is charged once.
        if (await KeepAsync(key, charge) != charge)
        {
            return Results.Problem(statusCode: StatusCodes.Status422UnprocessableEntity, title: "This Idempotency-Key was used for another charge.");
        }

        if (mode != FaultMode.Healthy)
        {
            await Task.Delay(mode == FaultMode.Slow ? fault.DelayMs : Timeout.Infinite, hungUp);
        }

        return Results.Ok(charge);
    }

    /// <summary>The charge and the webhook that tells of it are one commit.</summary>
    /// <returns>What was charged under the key, now or before.</returns>
    private async Task<Charge> KeepAsync(string key, Charge charge)
    {
        await using SqliteConnection connection = ShopDatabase.Open(_connectionString);
        await using SqliteTransaction transaction = connection.BeginTransaction();
        await using SqliteCommand command = connection.CreateCommand();
        command.Transaction = transaction;
        command.CommandText = "INSERT INTO charges (key, order_id, cents) VALUES ($key, $order, $cents) ON CONFLICT (key) DO NOTHING";
        command.Parameters.AddWithValue("$key", key);
        command.Parameters.AddWithValue("$order", charge.OrderId);
        command.Parameters.AddWithValue("$cents", charge.Cents);
        if (await command.ExecuteNonQueryAsync() == 1)
        {
            byte[] payload = JsonSerializer.SerializeToUtf8Bytes(charge, Export.Json);
            await _app.Services.GetRequiredService<WebhookOutbox>().EnqueueAsync(new WebhookEvent("payment.charged", payload, Audience), transaction);
        }

        command.CommandText = "SELECT order_id, cents FROM charges WHERE key = $key";
        Charge kept;
        await using (SqliteDataReader reader = await command.ExecuteReaderAsync())
        {
            await reader.ReadAsync();
            kept = new Charge(reader.GetGuid(0), reader.GetInt32(1));
        }

        await transaction.CommitAsync();
        return kept;
    }

    private int Count()
    {
        using SqliteConnection connection = ShopDatabase.Open(_connectionString);
        using SqliteCommand command = connection.CreateCommand();
        command.CommandText = "SELECT count(*) FROM charges";
        return Convert.ToInt32(command.ExecuteScalar(), CultureInfo.InvariantCulture);
    }
}
