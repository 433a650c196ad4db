using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Serialization;
using Backend.Toolkit.CircuitBreakers;
using Backend.Toolkit.RetryPolicies;
using Backend.Toolkit.TimeoutBudgets;
using Microsoft.Extensions.Options;

namespace Shop;

/// <summary>The order service: what it is made of, then what it answers.</summary>
internal static class ShopApplication
{
    public static WebApplication Build(params string[] args)
    {
        WebApplicationBuilder builder = WebApplication.CreateBuilder(new WebApplicationOptions { Args = args, ContentRootPath = AppContext.BaseDirectory });
        ConfigurationManager configuration = builder.Configuration;
        IServiceCollection services = builder.Services;
        bool plain = configuration.GetValue<bool>("plain");
        builder.WebHost.UseUrls(LoopbackOnly(configuration["urls"] ?? (IsFree(5080) ? "http://127.0.0.1:5080" : "http://127.0.0.1:0")));
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Limits.MaxRequestBodySize = 16 * 1024);

        // A charge goes budget -> retry -> breaker -> attempt timeout; Checkout nests them.
        services.AddTimeoutBudget("checkout");
        services.AddRetryBudget("payments");
        services.AddRetryPolicy("payments", (o, provider) =>
        {
            o.ShouldRetry = PaymentsClient.IsFault;
            o.TimeLeft = TimeoutBudget.TimeLeft;
            o.ExpectedAttemptTime = TimeSpan.FromMilliseconds(100);
            o.Budget = provider.GetRequiredKeyedService<RetryBudget>("payments");
        });
        services.AddCircuitBreaker("payments", o => o.IsFailure = PaymentsClient.IsFault);

        // A quarter of what is left, so that an attempt that hangs fails while there is time for another. That is a failure to the breaker; the end of the whole budget is not.
        services.AddTimeoutBudget("payments-attempt", o => o.TotalFor = () => TimeoutBudget.Current?.Slice(0.25, floor: TimeSpan.FromMilliseconds(100)));

        // The numbers are in appsettings.json. A change there reaches the running service; an open circuit stays open.
        services.AddOptions<TimeoutBudgetOptions>("checkout").BindConfiguration("TimeoutBudgets:checkout");
        services.AddOptions<RetryBudgetOptions>("payments").BindConfiguration("RetryBudgets:payments");
        services.AddOptions<RetryPolicyOptions>("payments").BindConfiguration("RetryPolicies:payments");
        services.AddOptions<CircuitBreakerOptions>("payments").BindConfiguration("CircuitBreakers:payments");

        services.AddSingleton(TimeProvider.System);
        services.AddSingleton(_ => new OrderStore(configuration["data"]));
        services.AddSingleton<Traffic>();
        services.AddSingleton<Checkout>();
        services.AddSingleton<PaymentsService>();
        services.AddHostedService(provider => provider.GetRequiredService<PaymentsService>());
        services.AddSingleton(provider => new PaymentsClient(new HttpClient
        {
            BaseAddress = new Uri(provider.GetRequiredService<PaymentsService>().Address),

            // Without the toolkit, HttpClient gets the same limit for the whole call, and nothing else.
            Timeout = plain ? provider.GetRequiredService<IOptionsMonitor<TimeoutBudgetOptions>>().Get("checkout").Total : Timeout.InfiniteTimeSpan,
        }));

        services.AddProblemDetails();
        services.Configure<RouteHandlerOptions>(o => o.ThrowOnBadRequest = false); // 400 in development, too
        services.ConfigureHttpJsonOptions(json => json.SerializerOptions.Converters.Add(new JsonStringEnumConverter(JsonNamingPolicy.CamelCase)));

        WebApplication app = builder.Build();
        app.Services.GetRequiredService<OrderStore>();
        app.Use(app.Services.GetRequiredService<Traffic>().CountAsync);
        app.UseExceptionHandler();
        app.UseStatusCodePages();

        app.MapPost("/orders", async (NewOrder request, OrderStore orders, Checkout checkout, TimeProvider time, HttpContext context) =>
        {
            if (request.Problems() is { Count: > 0 } problems)
            {
                return Results.ValidationProblem(problems);
            }

            // Stored before it is charged: an order whose charge had no answer stays pending, and is not lost.
            var order = new Order(Guid.CreateVersion7(), request.Item!, request.Cents, OrderStatus.Pending, time.GetUtcNow());
            orders.Add(order);
            try
            {
                bool accepted = plain ? await checkout.ChargePlainlyAsync(order, context.RequestAborted) : await checkout.ChargeAsync(order, context.RequestAborted);
                order = order with { Status = accepted ? OrderStatus.Paid : OrderStatus.Declined };
                orders.Settle(order);
                return accepted ? Results.Created($"/orders/{order.Id}", order) : Problem(StatusCodes.Status402PaymentRequired, "The payment was declined.", order);
            }
            catch (CircuitOpenException open)
            {
                context.Response.Headers.RetryAfter = $"{Math.Max(1, Math.Ceiling(open.RetryAfter.TotalSeconds))}";
                return Problem(StatusCodes.Status503ServiceUnavailable, "Payments is not available; come back later.", order);
            }
            catch (OperationCanceledException) when (context.RequestAborted.IsCancellationRequested)
            {
                return Results.StatusCode(StatusCodes.Status499ClientClosedRequest);
            }
            catch (Exception late) when (late is TimeoutBudgetExceededException or OperationCanceledException)
            {
                return Problem(StatusCodes.Status504GatewayTimeout, "Payments did not answer in time.", order);
            }
            catch (HttpRequestException)
            {
                return Problem(StatusCodes.Status502BadGateway, "Payments failed.", order);
            }
        });
        app.MapGet("/orders", (OrderStore orders) => orders.Newest(50));
        app.MapGet("/orders/{id:guid}", (Guid id, OrderStore orders) => orders.Find(id) is { } order ? Results.Ok(order) : Results.NotFound());
        app.MapGet("/state", State);
        app.MapGet("/", (OrderStore orders) => Results.Content(StatePage.Render(State(), orders.Newest(10)), "text/html; charset=utf-8"));
        return app;

        ShopState State() => app.Services.GetRequiredService<Traffic>().State(
            app.Services.GetRequiredService<PaymentsService>().Address,
            app.Services.GetRequiredKeyedService<CircuitBreaker>("payments").State,
            app.Services.GetRequiredKeyedService<RetryBudget>("payments").Tokens);
    }

    private static IResult Problem(int status, string title, Order order) =>
        Results.Problem(statusCode: status, title: title, extensions: new Dictionary<string, object?> { ["orderId"] = order.Id, ["orderStatus"] = order.Status });

    /// <summary>There is no sign-in here, so nobody from outside may reach it.</summary>
    private static string LoopbackOnly(string urls) =>
        urls.Split(';').All(url => Uri.TryCreate(url, UriKind.Absolute, out Uri? uri) && uri.IsLoopback)
            ? urls
            : throw new ArgumentException($"--urls must name loopback addresses such as http://127.0.0.1:5080, but is {urls}.");

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
