using System.Text.Json;
using Backend.Toolkit.Webhooks;
using Backend.Toolkit.Webhooks.AspNetCore;
using Microsoft.Data.Sqlite;

namespace Shop;

/// <summary>What a customer's endpoint has received, each id once, the newest hundred last; how often one came again; and whether it is told to fail.</summary>
internal sealed record Received(int Count, IReadOnlyList<string> Ids, int Repeats, bool IsBroken);

/// <summary>
/// A customer who wants to hear of orders: an application of its own, with a database of its own, that verifies what comes. What it does about a message is kept in one commit with the message's id, so it is done once,
/// also when the customer or the shop was killed half-way; that is why no guard in memory stands before it.
/// </summary>
internal sealed class Customer : IHostedService, IAsyncDisposable
{
    private readonly WebApplication _app;
    private readonly string _connectionString;
    private volatile bool _isBroken;

    /// <param name="folder">Where customer.db is.</param>
    /// <param name="secret">Given to the shop together with the address of the hook.</param>
    /// <param name="urls">Where it listens.</param>
    public Customer(string folder, string secret, string urls = "http://127.0.0.1:0")
    {
        _connectionString = new SqliteConnectionStringBuilder { DataSource = Path.Combine(folder, "customer.db") }.ToString();
        using (SqliteConnection connection = ShopDatabase.Open(_connectionString))
        using (SqliteCommand command = connection.CreateCommand())
        {
            command.CommandText = """
                PRAGMA journal_mode = WAL;
                CREATE TABLE IF NOT EXISTS received (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body TEXT NOT NULL, repeats INTEGER NOT NULL DEFAULT 0);
                """;
            command.ExecuteNonQuery();
        }

        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().UseUrls(urls);
        builder.Services.AddRouting();
        builder.Services.AddWebhookReceiving();
        builder.Services.AddWebhookVerifier("shop", o => o.Keys.Add(new WebhookKey(secret)));
        _app = builder.Build();
        _app.UseRouting();
        _app.UseWebhookVerification();
        _app.MapPost(Neighbours.Hook, (JsonElement body, HttpContext context) =>
        {
            if (_isBroken)
            {
                return Results.StatusCode(StatusCodes.Status500InternalServerError);
            }

            Keep(context.GetVerifiedWebhook().Id!, body.GetRawText());
            return Results.Ok();
        }).VerifyWebhook("shop", guardReplays: false);
        _app.MapGet("/received", Received);
        _app.MapGet("/broken", () => Results.Json(new CustomerTold(_isBroken)));
        _app.MapPost("/broken", (bool value) => _isBroken = value).AddEndpointFilter(FromHere.OnlyAsync);
    }

    /// <summary>Known once it has started.</summary>
    public string Address => _app.Urls.First();

    public Task StartAsync(CancellationToken cancellationToken) => _app.StartAsync(cancellationToken);

    public Task StopAsync(CancellationToken cancellationToken) => _app.StopAsync(cancellationToken);

    public Task WaitForShutdownAsync() => _app.WaitForShutdownAsync();

    public ValueTask DisposeAsync() => _app.DisposeAsync();

    private void Keep(string id, string body)
    {
        using SqliteConnection connection = ShopDatabase.Open(_connectionString);
        using SqliteCommand command = connection.CreateCommand();
        command.CommandText = "INSERT INTO received (id, body) VALUES ($id, $body) ON CONFLICT (id) DO UPDATE SET repeats = repeats + 1";
        command.Parameters.AddWithValue("$id", id);
        command.Parameters.AddWithValue("$body", body);
        command.ExecuteNonQuery();
    }

    private Received Received()
    {
        using SqliteConnection connection = ShopDatabase.Open(_connectionString);
        using SqliteCommand command = connection.CreateCommand();
        command.CommandText = "SELECT id, count(*) OVER (), sum(repeats) OVER () FROM received ORDER BY seq DESC LIMIT 100";
        using SqliteDataReader reader = command.ExecuteReader();
        List<string> ids = [];
        (int count, int repeats) = (0, 0);
        while (reader.Read())
        {
            ids.Insert(0, reader.GetString(0));
            (count, repeats) = (reader.GetInt32(1), reader.GetInt32(2));
        }

        return new Received(count, ids, repeats, _isBroken);
    }
}
