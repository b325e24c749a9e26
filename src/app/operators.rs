//! The two addresses of operators, opened, changed and closed together.

use std::path::PathBuf;
use std::sync::Arc;

use super::latest::LatestValue;
use super::operator_port::{OperatorPort, PortRole, PreparedOperatorPort};
use super::{App, StartError};
use crate::access::ListenerAccess;
use crate::admin::AdminService;
use crate::config::{ADMIN_LISTEN, AccessSettings, DASHBOARD_LISTEN, DashboardSettings, Settings};
use crate::control::PageFigures;
use crate::dashboard::{
    Activity, DashboardGate, DashboardService, DashboardSources, record_activity,
};
use crate::http::InheritedListeners;

/// The addresses of operators, and what is served there.
#[derive(Debug)]
pub(super) struct OperatorPorts {
    admin: Arc<AdminService>,
    admin_port: OperatorPort,
    dashboard: Arc<DashboardService>,
    dashboard_port: OperatorPort,
    gate: Arc<LatestValue<DashboardGate>>,
    /// The users of the page, whose file is looked after.
    access: Arc<AccessSettings>,
}

/// The changes that new settings ask for.
#[derive(Debug)]
pub(super) struct PreparedOperatorPorts {
    admin: PreparedOperatorPort,
    page: PreparedPage,
}

/// The change of the page's address that new settings ask for.
#[derive(Debug)]
pub(super) struct PreparedPage {
    port: PreparedOperatorPort,
    settings: DashboardSettings,
}

impl OperatorPorts {
    /// Closed.
    pub(super) fn new(inherited: &Arc<InheritedListeners>) -> Self {
        let (admin, dashboard) =
            (Arc::<AdminService>::default(), Arc::<DashboardService>::default());
        let open = DashboardGate { names: Vec::new(), logins: None };
        let gate = Arc::new(LatestValue::new(open));
        Self {
            admin_port: admin_port(inherited, &admin),
            dashboard_port: dashboard_port(inherited, &dashboard, &gate),
            admin,
            dashboard,
            gate,
            access: Arc::default(),
        }
    }

    /// Binds what is not bound yet. Does all that can fail.
    pub(super) fn prepare(&self, settings: &Settings) -> Result<PreparedOperatorPorts, StartError> {
        let port = self.dashboard_port.prepare(settings.dashboard.address)?;
        let page = PreparedPage { port, settings: settings.dashboard.clone() };
        Ok(PreparedOperatorPorts { admin: self.admin_port.prepare(settings.admin)?, page })
    }

    /// Has health and metrics at their address and nowhere else. Returns the rest, which takes an
    /// open proxy.
    pub(super) async fn commit_admin(&mut self, prepared: PreparedOperatorPorts) -> PreparedPage {
        self.admin_port.commit(prepared.admin).await;
        prepared.page
    }

    /// Has the page at its address and nowhere else, for its users alone.
    pub(super) async fn commit_page(&mut self, prepared: PreparedPage, app: &App) {
        let PreparedPage { port, settings: DashboardSettings { names, access, .. } } = prepared;
        self.access = Arc::new(access);
        let options = self.access.options.clone();
        let has_users = options.htpasswd.is_some();
        let logins = has_users.then(|| ListenerAccess::new(options, Arc::clone(&app.ledger)));
        // An address that was for users alone must not be open to all while it is being closed.
        if !matches!(port, PreparedOperatorPort::Keep) {
            self.dashboard_port.commit(PreparedOperatorPort::Close).await;
        }
        self.gate.put(DashboardGate { names, logins });
        self.dashboard_port.commit(port).await;
    }

    /// Shows this proxy, and notes from now on what happens.
    pub(super) fn show(&self, app: &App, dir: PathBuf) {
        app.show_to(&self.admin);
        let activity = Activity::default();
        let clock = Arc::clone(&app.egress.clock);
        let started = clock.now();
        let traffic = Arc::clone(&app.traffic);
        let noted = activity.clone();
        let stop = app.stop.clone();
        tokio::spawn(record_activity(noted, traffic, move || clock.now(), stop));
        let reports = app.report_sources();
        self.dashboard.serves(DashboardSources { reports, activity, dir, started });
    }

    /// The figures of the page, for commands.
    pub(super) fn page(&self) -> PageFigures {
        let dashboard = Arc::clone(&self.dashboard);
        Arc::new(move || {
            let dashboard = Arc::clone(&dashboard);
            Box::pin(async move { dashboard.stats().await })
        })
    }

    /// The users of the page, to look after their file.
    pub(super) fn access(&self) -> Arc<AccessSettings> {
        Arc::clone(&self.access)
    }
}

fn admin_port(inherited: &Arc<InheritedListeners>, admin: &Arc<AdminService>) -> OperatorPort {
    let role = PortRole {
        served: "health checks and metrics are served",
        missing: "no health and metrics: the address is in use; set `admin_listen` to another",
        optional: ADMIN_LISTEN,
    };
    let admin = Arc::clone(admin);
    let answer = move |request, _| {
        let admin = Arc::clone(&admin);
        Box::pin(async move { admin.answer(request).await }) as _
    };
    OperatorPort::new(Arc::clone(inherited), role, Arc::new(answer))
}

fn dashboard_port(
    inherited: &Arc<InheritedListeners>,
    dashboard: &Arc<DashboardService>,
    gate: &Arc<LatestValue<DashboardGate>>,
) -> OperatorPort {
    let role = PortRole {
        served: "the page for operators is served",
        missing: "no page: the address is in use; set `dashboard.listen` to another",
        optional: DASHBOARD_LISTEN,
    };
    let (dashboard, gate) = (Arc::clone(dashboard), Arc::clone(gate));
    let answer = move |request, client| {
        let (dashboard, gate) = (Arc::clone(&dashboard), gate.take());
        Box::pin(async move { dashboard.answer(request, &gate, client).await }) as _
    };
    OperatorPort::new(Arc::clone(inherited), role, Arc::new(answer))
}
