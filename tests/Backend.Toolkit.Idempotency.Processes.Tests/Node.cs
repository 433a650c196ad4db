using System.Data.Common;
using System.Diagnostics;
using System.Globalization;
using Backend.Toolkit.Idempotency.AspNetCore;
using Backend.Toolkit.Idempotency.PostgreSql;
using Backend.Toolkit.Idempotency.Redis;
using Backend.Toolkit.Idempotency.Sqlite;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;
using StackExchange.Redis;

namespace Backend.Toolkit.Idempotency.Processes.Tests;

/// <summary>Where a node can be told to kill itself, with a signal that no process hears.</summary>
internal enum DeathPoint
{
    Never,
    Claim,
    Effect,
    Completion,
    Response,
}

/// <summary>What a node is told: where the records and the effects are, and when to die.</summary>
internal sealed record NodeSettings(string Store, string ConnectionString, bool InTransaction, string Ledger, string Name, DeathPoint Death = DeathPoint.Never, int Hit = 1, int SlowMilliseconds = 0)
{
    /// <summary>Both sides agree on it.</summary>
    public static TimeSpan Lease { get; } = TimeSpan.FromSeconds(2);

    public string[] Arguments() => ["node", Store, ConnectionString, $"{InTransaction}", Ledger, Name, $"{Death}", string.Create(CultureInfo.InvariantCulture, $"{Hit}"), string.Create(CultureInfo.InvariantCulture, $"{SlowMilliseconds}")];

    public static NodeSettings Parse(string[] args) => new(
        args[0], args[1], bool.Parse(args[2]), args[3], args[4], Enum.Parse<DeathPoint>(args[5]), int.Parse(args[6], CultureInfo.InvariantCulture), int.Parse(args[7], CultureInfo.InvariantCulture));
}

/// <summary>A service in a process of its own: a payment is a row in a table. It prints its address and ends with its standard input.</summary>
internal static class Node
{
    private static int _hits;

    public static async Task<int> RunAsync(string[] args)
    {
        NodeSettings settings = NodeSettings.Parse(args);
        var ledger = new Ledger(settings.Ledger);
        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().UseUrls("http://127.0.0.1:0");
        builder.Services.AddRoutingCore();
        builder.Services.AddIdempotency("pay", o =>
        {
            o.Lease = NodeSettings.Lease;
            o.MaxWait = TimeSpan.FromSeconds(1);
        });
        builder.Services.AddHttpIdempotency(o => o.AllowAnonymous = true);
        DbDataSource? source = settings.Store switch
        {
            "sqlite" => SqliteFactory.Instance.CreateDataSource(settings.ConnectionString),
            "postgresql" => NpgsqlDataSource.Create(settings.ConnectionString),
            _ => null,
        };
        switch (settings.Store)
        {
            case "sqlite":
                builder.Services.AddSqliteIdempotencyStore(o => o.ConnectionString = settings.ConnectionString);
                break;
            case "postgresql":
                builder.Services.AddPostgreSqlIdempotencyStore(o => o.DataSource = (NpgsqlDataSource)source!);
                break;
            default:
                builder.Services.AddSingleton<IConnectionMultiplexer>(_ => ConnectionMultiplexer.Connect(settings.ConnectionString));
                builder.Services.AddRedisIdempotencyStore(_ => { });
                break;
        }

        await using WebApplication app = builder.Build();
        app.Use((context, next) =>
        {
            context.Response.Body = new MortalStream(context, settings);
            return next(context);
        });
        app.UseRouting();
        app.UseIdempotency();
        app.MapPost("/pay/{key}", async (string key, HttpContext context) =>
        {
            IdempotentOperation operation = context.GetIdempotentOperation();
            string downstream = operation.DownstreamKey("charge");
            DbTransaction? transaction = null;
            if (settings.InTransaction)
            {
                DbConnection connection = source!.CreateConnection();
                context.Response.RegisterForDisposeAsync(connection);
                transaction = await operation.BeginTransactionAsync(connection, context.RequestAborted);
            }

            ledger.Begin(key, downstream, settings.Name);
            Reach(settings, DeathPoint.Claim);
            await Task.Delay(TimeSpan.FromMilliseconds(settings.SlowMilliseconds), TimeProvider.System);
            if (transaction is null)
            {
                ledger.Charge(key, downstream, settings.Name);
            }
            else
            {
                await Ledger.ChargeAsync(transaction, key, downstream, settings.Name);
            }

            Reach(settings, DeathPoint.Effect);
            await context.Response.WriteAsync($"{Guid.NewGuid()} by {settings.Name} {new string('.', 20_000)}");
        }).RequireIdempotency("pay", settings.InTransaction ? IdempotencyMode.Transaction : IdempotencyMode.Lease);

        await app.StartAsync();
        await Console.Out.WriteLineAsync(app.Urls.First());
        await Console.In.ReadToEndAsync();
        return 0;
    }

    /// <summary>At the n-th hit of its point the process is gone.</summary>
    public static void Reach(NodeSettings settings, DeathPoint point)
    {
        if (point == settings.Death && Interlocked.Increment(ref _hits) == settings.Hit)
        {
            Process.GetCurrentProcess().Kill();
        }
    }
}
