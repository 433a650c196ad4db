using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Serialization;
using Backend.Toolkit.CircuitBreakers;
using Backend.Toolkit.Http;
using Backend.Toolkit.Idempotency;
using Backend.Toolkit.Idempotency.AspNetCore;
using Backend.Toolkit.Idempotency.PostgreSql;
using Backend.Toolkit.Idempotency.Sqlite;
using Backend.Toolkit.Pagination;
using Backend.Toolkit.Pagination.AspNetCore;
using Backend.Toolkit.RateLimiting;
using Backend.Toolkit.RateLimiting.AspNetCore;
using Backend.Toolkit.RateLimiting.Redis;
using Backend.Toolkit.TimeoutBudgets;
using Backend.Toolkit.TimeoutBudgets.AspNetCore;
using Backend.Toolkit.Webhooks;
using Backend.Toolkit.Webhooks.AspNetCore;
using Backend.Toolkit.Webhooks.Delivery;
using Backend.Toolkit.Webhooks.Delivery.PostgreSql;
using Backend.Toolkit.Webhooks.Delivery.Sqlite;
using Microsoft.AspNetCore.RateLimiting;
using Microsoft.Extensions.Configuration.EnvironmentVariables;
using Microsoft.Extensions.Configuration.Memory;
using Npgsql;
using StackExchange.Redis;

namespace Shop;

/// <summary>The order service: what it is made of, then what it answers.</summary>
internal static class ShopApplication
{
    public static WebApplication Build(params string[] args)
    {
        WebApplicationBuilder builder = WebApplication.CreateBuilder(new WebApplicationOptions { Args = Otlp.Arguments(args), ContentRootPath = AppContext.BaseDirectory });
        ConfigurationManager configuration = builder.Configuration;
        IServiceCollection services = builder.Services;
        KeepSettingsOnly(configuration);
        if (configuration.GetSection("Kestrel:Endpoints").Exists())
        {
            throw new ArgumentException("Kestrel:Endpoints must not be set: --urls says where the shop listens, on loopback only.");
        }

        bool plain = configuration.GetValue<bool>("plain");
        builder.WebHost.UseUrls(LoopbackOnly(configuration["urls"] ?? (IsFree(5080) ? "http://127.0.0.1:5080" : "http://127.0.0.1:0")));
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Limits.MaxRequestBodySize = 16 * 1024);

        // How long a request may take; what its caller says can only shorten it.
        services.AddTimeoutBudgets();
        services.AddOptions<RequestBudgetOptions>().BindConfiguration("RequestBudget");

        // How often a client may ask, by its address: of this shop, or of all shops on one Redis together.
        services.AddRateLimits();
        if (configuration["redis"] is { } redis)
        {
            services.AddSingleton<IConnectionMultiplexer>(_ => ConnectionMultiplexer.Connect(redis, options => options.AbortOnConnectFail = false));
            services.AddRedisTokenBucketLimiter<HttpContext>("client", RateLimitKeys.IpPrefix, o => o.Nodes = () => configuration.GetValue("nodes", 2));
            services.AddOptions<RedisTokenBucketLimiterOptions<HttpContext>>("client").BindConfiguration("RateLimits:client");
        }
        else
        {
            services.AddTokenBucketLimiter<HttpContext>("client", RateLimitKeys.IpPrefix);
            services.AddOptions<KeyedTokenBucketLimiterOptions<HttpContext>>("client").BindConfiguration("RateLimits:client");
        }

        // How many orders are placed at once: what the database cannot take would wait in it until there is no time left, and be charged for nobody.
        services.AddRateLimiter(limiter =>
        {
            limiter.AddConcurrencyLimiter("orders", o => (o.PermitLimit, o.QueueLimit) = (24, 48));
            limiter.RejectionStatusCode = StatusCodes.Status503ServiceUnavailable;
            limiter.OnRejected = (rejected, _) =>
            {
                rejected.HttpContext.Response.Headers.RetryAfter = "1";
                return ValueTask.CompletedTask;
            };
        });

        // What an order's key was answered is kept beside the orders, so that both are one commit.
        services.AddIdempotency("orders");
        services.AddOptions<IdempotencyOptions>("orders").BindConfiguration("Idempotency:orders");
        services.AddHttpIdempotency();
        services.AddOptions<HttpIdempotencyOptions>().BindConfiguration("HttpIdempotency");
        if (configuration["postgres"] is not null)
        {
            services.AddPostgreSqlWebhookDeliveryStore((o, provider) => o.DataSource = provider.GetRequiredService<ShopDatabase>().Source as NpgsqlDataSource);
            services.AddPostgreSqlIdempotencyStore((o, provider) => o.DataSource = provider.GetRequiredService<ShopDatabase>().Source as NpgsqlDataSource);
        }
        else
        {
            services.AddSqliteWebhookDeliveryStore((o, provider) => o.ConnectionString = provider.GetRequiredService<ShopDatabase>().ConnectionString);
            services.AddSqliteIdempotencyStore((o, provider) => (o.ConnectionString, o.SurvivePowerLoss) = (provider.GetRequiredService<ShopDatabase>().ConnectionString, provider.GetRequiredService<ShopDatabase>().IsKept));
        }

        // Customers hear of orders out of the order's own transaction, and payments tells of its charges.
        services.AddWebhookDelivery((o, provider) => (o.Protect, o.Unprotect) = provider.GetRequiredService<ShopDatabase>().Protection());
        services.AddOptions<WebhookDeliveryOptions>().BindConfiguration("Webhooks").PostConfigure(o => o.Name = DashboardFeed.Deliveries);
        services.AddWebhookReceiving();
        services.AddOptions<WebhookReceivingOptions>().BindConfiguration("WebhookReceiving");
        services.AddWebhookVerifier("payments", (o, provider) => o.Keys.Add(new WebhookKey(provider.GetRequiredService<Neighbours>().PaymentsSecret)));
        services.AddWebhookReplayGuard("payments", (o, provider) => (o.Store, o.Lease) = (Webhooks.Over(provider.GetRequiredService<IIdempotencyStore>()), TimeSpan.FromSeconds(10)));

        // Orders are listed page by page.
        services.AddCursorPagination();
        services.AddOptions<CursorPaginatorOptions>().BindConfiguration("Cursors");
        services.AddHttpPagination();

        // A charge goes budget -> retry -> circuit -> attempt timeout, all in the handler of the client. Without the toolkit, HttpClient gets the same limit
        // for the whole call, and nothing else.
        IHttpClientBuilder payments = services.AddHttpClient<PaymentsClient>("payments", (provider, http) =>
        {
            http.BaseAddress = provider.GetRequiredService<Neighbours>().Payments;
            http.Timeout = plain ? configuration.GetValue<TimeSpan>("OutboundPolicies:payments:Budget:Total") : Timeout.InfiniteTimeSpan;
        });
        if (!plain)
        {
            // A quarter of what is left, so that an attempt that hangs fails while there is time for another.
            payments.AddOutboundPolicy(o => o.Attempt!.TotalFor = () => TimeoutBudget.Current?.Slice(0.25, floor: TimeSpan.FromMilliseconds(100)));

            // The numbers are in appsettings.json. A change there reaches the running service; an open circuit stays open.
            services.AddOptions<OutboundPolicyOptions>("payments").BindConfiguration("OutboundPolicies:payments");
        }

        payments.UseSocketsHttpHandler((handler, _) => (handler.UseProxy, handler.PooledConnectionIdleTimeout) = (false, TimeSpan.FromSeconds(5))); // what a burst has opened
        payments.AddHttpMessageHandler(provider => new CountedAttempts(provider.GetRequiredService<Traffic>()));

        // What it all says of itself: to a collector, when one is named, and to who writes a client.
        Otlp.Add(services, configuration);
        ApiDocument.Add(services);

        services.AddSingleton(TimeProvider.System);
        services.AddSingleton(_ => new ShopDatabase(configuration["data"], configuration["postgres"]));
        services.AddSingleton<OrderStore>();
        services.AddScoped(provider => provider.GetRequiredService<ShopDatabase>().Connect()); // of a request: it outlives the handler, for the commit
        services.AddScoped<PlaceOrder>();
        services.AddSingleton<Traffic>();
        services.AddSingleton<Neighbours>();
        if (Neighbours.Outside(configuration, "payments") is null)
        {
            services.AddSingleton(provider => new PaymentsService(provider.GetRequiredService<ShopDatabase>().Folder, configuration.GetSection("Webhooks").Bind));
            services.AddHostedService(provider => provider.GetRequiredService<PaymentsService>());
        }

        if (Neighbours.Outside(configuration, "customer") is null)
        {
            services.AddSingleton(provider => new Customer(provider.GetRequiredService<ShopDatabase>().Folder, provider.GetRequiredService<Neighbours>().CustomerSecret));
            services.AddHostedService(provider => provider.GetRequiredService<Customer>());
        }

        services.AddHostedService<Subscriptions>();
        services.AddSingleton<LiveMetrics>();
        services.AddHttpClient(Controls.Client).ConfigurePrimaryHttpMessageHandler(() => new SocketsHttpHandler { UseProxy = false, ActivityHeadersPropagator = null });
        services.AddSingleton<Controls>();
        services.AddSingleton<LoadRun>();
        services.AddSingleton<DashboardFeed>();
        services.AddHostedService(provider => provider.GetRequiredService<DashboardFeed>());
        services.AddProblemDetails();
        services.Configure<RouteHandlerOptions>(o => o.ThrowOnBadRequest = false); // 400 in development, too
        services.ConfigureHttpJsonOptions(json =>
        {
            json.SerializerOptions.Converters.Add(new JsonStringEnumConverter(JsonNamingPolicy.CamelCase, allowIntegerValues: false));
            json.SerializerOptions.NumberHandling = JsonNumberHandling.Strict;
        });

        WebApplication app = builder.Build();
        app.Services.GetRequiredService<ShopDatabase>();
        app.Use(app.Services.GetRequiredService<Traffic>().CountAsync);
        app.UseExceptionHandler();
        app.UseStatusCodePages();
        app.UseRateLimits(policy: plain ? null : "client");
        app.Use(app.Services.GetRequiredService<LiveMetrics>().SeeLimitAsync);

        app.UseRateLimiter();

        // Around the budget, so that it is the budget that ends a handler, and not a client that hangs up.
        app.UseIdempotency();
        app.UseTimeoutBudgets();
        app.Use(app.Services.GetRequiredService<LiveMetrics>().SeeBudgetAsync);
        app.UseWebhookVerification();

        RouteHandlerBuilder place = plain
            ? app.MapPost("/orders", (NewOrder request, PlaceOrder order, HttpContext context, CancellationToken cancellationToken) => order.PlainAsync(request, context, cancellationToken))
            : app.MapPost("/orders", (NewOrder request, PlaceOrder order, HttpContext context, CancellationToken cancellationToken) => order.OnceAsync(request, context, cancellationToken))
                .RequireRateLimiting("orders").RequireIdempotency("orders");
        place.WithSummary("Places an order and charges it.").Produces<Order>(StatusCodes.Status201Created).ProducesValidationProblem().Refuses(402, 502, 503, 504);
        app.MapGet("/orders", async (PageQuery query, StatusFilter? status, OrderStore orders, CancellationToken cancellationToken) =>
            (await orders.PageAsync(query.Request, status?.Status, cancellationToken)).ToResult())
            .WithSummary("Lists orders, newest first: all, or those of a status.").Refuses(400);
        app.MapGet("/orders/{id:guid}", async (Guid id, OrderStore orders, CancellationToken cancellationToken) => await orders.FindAsync(id, cancellationToken) is { } order ? Results.Ok(order) : Results.NotFound())
            .WithSummary("Finds an order.").Produces<Order>().Refuses(404);
        Webhooks.Map(app);
        app.MapGet("/state", State).WithSummary("Tells of the circuit, the retries and the answers so far.").DisableRateLimit();
        app.MapOpenApi().DisableRateLimit().WithTimeoutBudget(TimeSpan.FromSeconds(30)); // it is put together when it is first asked for
        Dashboard.Map(app);
        return app;

        ShopState State()
        {
            Uri uri = app.Services.GetRequiredService<Neighbours>().Payments;
            Traffic traffic = app.Services.GetRequiredService<Traffic>();
            if (app.Services.GetKeyedService<OutboundPolicy>("payments") is not { } policy)
            {
                return traffic.State(uri.OriginalString, CircuitState.Closed, 0);
            }

            return traffic.State(uri.OriginalString, policy.CircuitBreakers.For(new HttpAuthority(uri.Scheme, uri.Host, uri.Port)).State, policy.RetryBudget.Tokens);
        }
    }

    /// <summary>There is no sign-in here, so nobody from outside may reach it.</summary>
    public static string LoopbackOnly(string urls) =>
        urls.Split(';').All(url => Uri.TryCreate(url, UriKind.Absolute, out Uri? uri) && uri.IsLoopback)
            ? urls
            : throw new ArgumentException($"--urls must name loopback addresses such as http://127.0.0.1:5080, but is {urls}.");

    /// <summary>Of the environment, settings with a section and OpenTelemetry's: the arguments' names are so common that it may have them for something else.</summary>
    private static void KeepSettingsOnly(ConfigurationManager configuration)
    {
        IList<IConfigurationSource> sources = configuration.Sources;
        for (int i = 0; i < sources.Count; i++)
        {
            if (sources[i] is EnvironmentVariablesConfigurationSource { Prefix: null or "" } environment)
            {
                IConfigurationRoot all = new ConfigurationBuilder().Add(environment).Build();
                sources[i] = new MemoryConfigurationSource
                {
                    InitialData = all.AsEnumerable().Where(setting => setting.Key.Contains(':', StringComparison.Ordinal) || setting.Key.StartsWith("OTEL_", StringComparison.OrdinalIgnoreCase)).ToList(),
                };
            }
        }
    }

    private static bool IsFree(int port)
    {
        using var listener = new TcpListener(IPAddress.Loopback, port);
        try
        {
            listener.Start();
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }
}
